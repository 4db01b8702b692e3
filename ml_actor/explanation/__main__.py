"""The child process of an explanation: nothing is fitted here, and no learning library is loaded.

    python -m ml_actor.explanation --job FILE.json

prints `{"result": {"ok": true, "explanation": {...}}}`, or a refusal.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from framework.errors import TidebookError
from framework.explanation_job import ExplanationJob
from framework.leak_job import JobResult
from framework.parent_death import die_with_parent
from ml_actor.explanation.account import explain


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process, dying with its parent; the result is the last line of stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.explanation", description="Explain one prediction.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of an ExplanationJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=ExplanationJob)
    die_with_parent()
    try:
        _say({"result": {"ok": True, "explanation": explain(job)}})
    except TidebookError as exc:
        _say({"result": JobResult(ok=False, reason=str(exc), exit_code=exc.exit_code)})
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": JobResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}")})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
