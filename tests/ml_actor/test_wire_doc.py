"""The examples of `docs/wire.md` and the keys of `docs/ml_service.md` are what the service does."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framework import wire
from framework.errors import ErrorCode
from framework.inference.verdict import FAILURE_OF_CODE
from framework.messages import HorizonPrediction
from framework.model import FlowType
from ml_actor.registry import UnknownVersion
from ml_actor.server import RouterServer
from ml_actor.service import MLService, Slow
from ml_actor.training_child import Progress

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIRE = (DOCS / "wire.md").read_text()
SERVICE = (DOCS / "ml_service.md").read_text()
VERSION = "v0003-1a2b3c4d"
EXAMPLES = re.findall(r"```json request\n(.*?)```\s+```json reply\n(.*?)```", WIRE, re.DOTALL)


def refuse(version: str, **_: Any) -> None:
    raise UnknownVersion(f"no version {version!r}")


def make_service() -> MLService:
    further = (HorizonPrediction(100, 0.25, 0.125, 0.625, FlowType.BUY, 0.625),)
    said = {"p_down": 0.1, "p_flat": 0.15, "p_up": 0.75, "flow_type": FlowType.BUY, "confidence": 0.75}
    scores = SimpleNamespace(**said, regime=1, shock_score=0.42, horizons=further)
    predictor: Any = SimpleNamespace(version=VERSION, window_rows=100, horizon_rows=20, is_calibrated=True, predict=lambda window: scores)
    versions = ({"version": VERSION, "is_champion": True},)
    models: Any = SimpleNamespace(champion=lambda: VERSION, versions=lambda: versions, decisions=lambda: (), promote=refuse, rollback=None)
    trainer: Any = SimpleNamespace(is_running=False, status=dict, start=lambda reason, refit: ("job-1705314615000", True))
    store: Any = SimpleNamespace(count=0, add=lambda items, received_ns: len(items))
    service = MLService(models, trainer, store, wall_ns=lambda: 0, timer=lambda: 0.0)
    service.use(predictor)
    return service


def ask(service: MLService, request: str) -> Any:
    answer = service.handle([request.strip().encode()], 0.0)
    if isinstance(answer, Slow):
        answer = answer.finish(answer.run())
    assert answer is not None
    return json.loads(answer[0])


def test_every_example_is_answered_as_printed() -> None:
    service = make_service()

    for request, reply in EXAMPLES:
        assert ask(service, request) == json.loads(reply)

    assert len(EXAMPLES) == 6


async def test_the_client_in_the_page_works(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", WIRE, re.DOTALL)
    server = RouterServer(make_service(), "tcp://127.0.0.1:0")
    server.start()
    try:
        await asyncio.to_thread(exec, script, {"ENDPOINT": server.endpoint})
    finally:
        await server.close()

    assert capsys.readouterr().out == "buy 0.75\n"


def test_the_table_of_headers_names_every_field_in_order() -> None:
    for kind in (*wire.Request.__args__, *wire.Reply.__args__):
        tag, fields = kind.__struct_config__.tag, kind.__struct_fields__[2:]
        assert f"`{tag}`" in WIRE
        assert re.sub(r" \([^)]*\)", "", WIRE).find(", ".join(fields)) >= 0, (tag, fields)


def test_every_error_code_is_explained_with_what_the_client_makes_of_it() -> None:
    rows = [line for line in WIRE.splitlines() if line.startswith("| `")]
    for code in set(ErrorCode) - {ErrorCode.BUSY}:
        (row,) = [line for line in rows if f"`{code}`" in line.split("|")[1]]
        if code in FAILURE_OF_CODE:
            assert f"`{FAILURE_OF_CODE[code]}`" in row.split("|")[3]


def test_every_key_of_the_status_document_is_listed() -> None:
    service = make_service()
    rim = RouterServer(service, "tcp://127.0.0.1:0")

    keys = [*service.status(0.0), *rim.stats(), *Progress.__struct_fields__]

    assert [key for key in keys if f"`{key}`" not in SERVICE] == []
