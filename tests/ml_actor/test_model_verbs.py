"""The operator's verbs on a real registry: by the service, and on a directory that nobody serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from framework.errors import ErrorCode, WireError
from framework.models_job import ModelsJob
from framework.wire import PROTOCOL_VERSION, ModelsRequest
from ml_actor import model_verbs
from ml_actor.registry import Registry, UnknownVersion


def request(action: str, version_id: str = "", other_id: str = "", reason: str = "") -> ModelsRequest:
    return ModelsRequest(version=PROTOCOL_VERSION, request_id="m", action=action, version_id=version_id, other_id=other_id, reason=reason)


@pytest.fixture
def pair(models_copy: Registry) -> tuple[Registry, str, str]:
    """A registry with two versions of the same files, the first one champion."""
    first = models_copy.versions()[0]["version"]
    files = {path.name: path.read_bytes() for path in (models_copy.directory / first).iterdir() if path.name != "manifest.json"}
    second = models_copy.save(files, window_rows=100, horizon_rows=10, facts=models_copy.manifest(first).facts)
    models_copy.promote(first, by="gate", reason="no champion yet")
    return models_copy, first, second


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], directory: Path, action: str, *names: str) -> Any:
    job = ModelsJob(models_dir=str(directory), action=action, **dict(zip(("version_id", "other_id"), names, strict=False)))
    path = tmp_path / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    assert model_verbs.main(["--job", str(path)]) == 0
    return json.loads(capsys.readouterr().out)["result"]


def test_every_decision_is_kept_with_who_why_and_when(pair: tuple[Registry, str, str]) -> None:
    registry, first, second = pair
    for asked in (
        request("promote", second, reason="better by hand"),
        request("pin", reason="audit"),
        request("rollback", reason="worse by hand"),
        request("unpin", second),
    ):
        facts = model_verbs.carry_out(registry, asked)

    found = [(one["act"], one["version"], one["by"], one.get("reason", "")) for one in facts["decisions"]]
    assert found == [
        ("promoted", first, "gate", "no champion yet"),
        ("promoted", second, "operator", "better by hand"),
        ("pinned", second, "operator", "audit"),
        ("rolled back", first, "operator", "worse by hand"),
        ("unpinned", second, "operator", ""),
    ]
    assert [one["number"] for one in facts["decisions"]] == [1, 2, 3, 4, 5]
    assert registry.champion() == first


def test_show_tells_the_manifest_and_the_decisions_about_the_version(pair: tuple[Registry, str, str]) -> None:
    registry, first, second = pair
    facts = model_verbs.carry_out(registry, request("show"))

    assert (facts["version"]["version"], facts["version"]["is_champion"]) == (first, True)
    assert set(facts["version"]["files"]["linear.npz"]) == {"sha256", "bytes"}
    assert facts["version"]["facts"]["libraries"]["numpy"]
    assert [one["act"] for one in facts["decisions"]] == ["promoted"]
    assert model_verbs.carry_out(registry, request("show", second))["decisions"] == []


def test_compare_puts_the_scores_side_by_side_and_shows_the_trials_of_the_pair(pair: tuple[Registry, str, str]) -> None:
    registry, first, second = pair
    registry.refuse(second, by="trial", reason="worse", evidence={"champion": first, "challenger": second, "e_worse": 31.0})
    facts = model_verbs.carry_out(registry, request("compare", second))

    assert [one["version"] for one in facts["versions"]] == [second, first]
    assert facts["scores"]["log_loss"][0] == facts["scores"]["log_loss"][1] > 0
    assert [one["evidence"]["e_worse"] for one in facts["decisions"]] == [31.0]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (request("drop"), WireError, "must be one of list, show, compare, promote, rollback, pin, unpin"),
        (request("promote"), WireError, "promote needs a version_id"),
        (request("show", "v0009-00000000"), UnknownVersion, "no version 'v0009-00000000'"),
        (request("compare", "../etc"), UnknownVersion, "no version"),
        (request("unpin"), UnknownVersion, "is not pinned; pinned: none"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    pair: tuple[Registry, str, str], asked: ModelsRequest, error: type[Exception], words: str
) -> None:
    registry, *_ = pair
    before = registry.standing()
    with pytest.raises(error, match=words.replace("'", ".")):
        model_verbs.carry_out(registry, asked)

    assert registry.standing() == before
    if error is WireError:
        with pytest.raises(WireError) as raised:
            model_verbs.carry_out(registry, asked)
        assert raised.value.code is ErrorCode.BAD_FIELD


def test_without_a_champion_there_is_nothing_to_pin(models_copy: Registry) -> None:
    with pytest.raises(UnknownVersion, match="no champion yet"):
        model_verbs.carry_out(models_copy, request("pin"))


def test_a_directory_that_nobody_serves_answers_the_same(
    pair: tuple[Registry, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, first, second = pair
    result = run(tmp_path, capsys, registry.directory, "promote", second)
    assert (result["ok"], result["champion"], registry.champion()) == (True, second, second)
    assert [one["version"] for one in result["versions"]] == [second, first]

    refused = run(tmp_path, capsys, registry.directory, "show", "v0009-00000000")
    assert (refused["ok"], refused["exit_code"]) == (False, 2)
