"""The child process that fits and scores: started, listened to, and ended whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from framework.errors import ConfigError, IntegrityError, StorageError, TidebookError
from framework.evaluation_job import EvaluationJob, EvaluationResult
from framework.logs import foreign

ARGV: Final = (sys.executable, "-m", "ml_actor.evaluate")
STOP_TIMEOUT_S: Final = 5.0
_ERRORS: Final[dict[int, type[TidebookError]]] = {error.exit_code: error for error in (ConfigError, StorageError, IntegrityError)}


class _Line(msgspec.Struct):
    stage: str = ""
    fraction: float = 0.0
    result: EvaluationResult | None = None


class ChildFailed(TidebookError):
    """The evaluation process ended without a result, or with a fault of its own."""


def run_child(job: EvaluationJob, scratch: Path, on_progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Run the job in a child and return its report. Raises what its refusal says, or `ChildFailed` with the child's last words."""
    path, words = scratch / "job.json", scratch / "child.log"
    path.write_bytes(msgspec.json.encode(job))
    with words.open("wb") as errors, _started([*ARGV, "--job", str(path)], errors) as child:
        assert child.stdout is not None
        result = _listen(child.stdout, on_progress)
        code = child.wait()
    if result is None or (not result.ok and result.exit_code not in _ERRORS):
        raise ChildFailed(_failure(result, code, words))
    if not result.ok:
        raise _ERRORS[result.exit_code](result.reason)
    return result.report


def _listen(stdout: IO[bytes], on_progress: Callable[[str, float], None]) -> EvaluationResult | None:
    result = None
    for line in stdout:
        try:
            said = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError:
            continue  # something that a library printed
        result = said.result or result
        if said.stage:
            on_progress(said.stage, said.fraction)
    return result


def _failure(result: EvaluationResult | None, code: int, words: Path) -> str:
    last = words.read_text(errors="replace").strip()
    if "TIDEBOOK_DEBUG" in os.environ:
        sys.stderr.write(last + "\n")
    if result is not None:
        return f"the evaluation process failed: {foreign(result.reason, 500)}"
    why = "killed, or out of memory" if code < 0 else foreign(last.rpartition("\n")[2], 300)
    return f"the evaluation process ended with exit code {code} and no result ({why})"


@contextmanager
def _started(argv: Sequence[str], errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the child, and see that it has ended when the block is left."""
    # From wherever we were called, the child finds the packages where we are.
    paths = [str(Path(__file__).resolve().parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment) as child:
        try:
            yield child
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
