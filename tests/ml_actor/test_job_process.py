"""Whatever becomes of a job, the parent gets one result line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from framework.errors import ConfigError
from ml_actor.job_process import run_job


class SmallJob(msgspec.Struct):
    """A job for these tests."""

    number: int


@pytest.fixture
def do(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    monkeypatch.setattr("ml_actor.job_process.die_with_parent", lambda: None)  # this process is no child of a command line

    def call(work: Any) -> tuple[int, list[Any], str]:
        (tmp_path / "job.json").write_text('{"number": 7}')
        code = run_job(["--job", str(tmp_path / "job.json")], prog="x", description="x", job_type=SmallJob, work=work)
        captured = capsys.readouterr()
        return code, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return call


def raising(error: Exception) -> Callable[[Any, Any], Any]:
    def work(_job: Any, _say: Any) -> Any:
        raise error

    return work


def test_a_result_comes_last_after_what_was_said(do: Callable[[Any], Any]) -> None:
    def work(job: SmallJob, say: Callable[[Any], None]) -> Any:
        say({"stage": "half", "fraction": 0.5})
        return {"ok": True, "number": job.number}

    code, lines, _ = do(work)

    assert (code, lines) == (0, [{"stage": "half", "fraction": 0.5}, {"result": {"ok": True, "number": 7}}])


@pytest.mark.parametrize(
    ("error", "exit_code", "words", "process_code"),
    [
        (ConfigError("no such version"), 2, "no such version", 0),
        (MemoryError(), 5, "out of memory", 0),
        (ZeroDivisionError("oops"), 1, "fault: ZeroDivisionError: oops", 1),
    ],
)
def test_what_is_raised_is_a_refusal_with_the_command_line_s_exit_code(
    do: Callable[[Any], Any], error: Exception, exit_code: int, words: str, process_code: int
) -> None:
    code, [line], trace = do(raising(error))

    assert code == process_code
    assert (line["result"]["ok"], line["result"]["exit_code"]) == (False, exit_code)
    assert words in line["result"]["reason"]
    assert ("Traceback" in trace) is (process_code == 1)
