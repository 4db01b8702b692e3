"""`search` from the command line: what it chooses, that it counts, and that `evaluate` takes what it wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from framework.cli.door import enter
from framework.operations.options import Summary
from tests.shfe import shfe_day

START_S = 1_750_000_000
ARGUMENTS = ("--member", "linear", "--tries", "3", "--horizons", "10", "--state-dir", "state", "--json")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: str) -> tuple[int, str, str]:
        return enter(arguments, lambda options: Summary()), *capsys.readouterr()

    return call


def test_a_search_keeps_or_replaces_what_ships_counts_its_looks_and_is_the_same_on_workers(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    first, second = (str(shfe_day(tmp_path / f"d{seed}.parquet", 2_600, seed=seed, start_s=START_S + 86_400 * seed)) for seed in (1, 2))

    code, output, errors = run("search", "--data", first, second, *ARGUMENTS, "--out", "settings.json")
    again = run("search", "--data", first, second, *ARGUMENTS, "--workers", "2")

    assert (code, errors) == (0, "")
    assert again == (0, output, "")
    found = json.loads(output)
    tries = [one["log_loss"] for one in found["tries"]]
    assert (len(tries), found["tries"][0]["values"]) == (3, {"strength": 5e-4})
    assert found["best"]["log_loss"] == min(tries) <= found["shipped"]["log_loss"] == tries[0]
    assert found["is_chosen"] == (found["deflated"]["probability"] >= 0.9)
    assert json.loads(Path("settings.json").read_text()) == ({"linear": found["best"]["values"]} if found["is_chosen"] else {})

    Path("own.json").write_text('{"linear": {"strength": 0.002}}')
    asked = ("--model", "linear", "--horizons", "10", "--settings", "own.json", "--state-dir", "state", "--json")
    code, output, errors = run("evaluate", "--train", first, "--test", second, *asked)

    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert report["settings"] == {"linear": {"strength": 0.002}}
    assert report["trials"] == 7  # two searches of three looked at it before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "search: found no recordings; allowed --data FILE..."),
        (("--data", "d1.parquet", "--member", "forest"), "--member: found 'forest'; allowed linear, trees, mlp, mlp_steady"),
        (("--data", "d1.parquet", "--backend", "fog"), "--backend: found fog; allowed loky, dask, ray"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_sentence(run: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    shfe_day(tmp_path / "d1.parquet", 400, seed=1, start_s=START_S)

    assert run("search", *arguments, "--state-dir", "state") == (2, "", f"error: {message}\n")


def test_settings_that_are_none_are_refused_before_anything_is_read(run: Any, tmp_path: Path) -> None:
    day = shfe_day(tmp_path / "d1.parquet", 400, seed=1, start_s=START_S)
    Path("own.json").write_text("[1]")

    code, _, errors = run("evaluate", "--data", str(day), "--settings", "own.json", "--state-dir", "state")

    assert code == 2
    assert errors.startswith("error: --settings: own.json holds no settings (")
