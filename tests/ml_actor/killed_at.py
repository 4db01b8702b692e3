"""A child process that saves, promotes and collects, and is killed (SIGKILL) before its n-th change of the file system.

    python tests/ml_actor/killed_at.py DIRECTORY FILES.json

forks one child per point, in copies of DIRECTORY, and prints one JSON line per point: what is there afterwards. Run by
`test_registry_crashes.py` in a process of its own, because forking wants a process without threads.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_actor.registry import Registry

POINTS = ("open", "fdopen", "write", "fsync", "rename", "replace", "mkdir", "link", "unlink", "rmdir", "pwrite")


def kill_before(point: int) -> Callable[[], int]:
    """Count calls that change the file system; before number `point` the process dies as by a power cut of its own."""
    calls = [0]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return counted

    for name in POINTS:
        if hasattr(os, name):
            setattr(os, name, wrap(getattr(os, name)))
    return lambda: calls[0]


def act(registry: Registry, files: dict[str, bytes]) -> None:
    """What a training and its promotion do to a registry, and the tidying after it."""
    saved = registry.save(files, window_rows=100, horizon_rows=10, facts={"reason": "again", "data": {"end_ns": 0}})
    registry.challenge(saved, by="gate", reason="tried")
    registry.promote(saved, by="trial", reason="won")
    registry.collect(1)


def outcome(directory: Path) -> dict[str, Any]:
    """What a reader finds after the crash, and whether the next save works."""
    registry = Registry(directory)
    bundle = registry.load_champion()
    damaged = [entry["version"] for entry in registry.versions() if "error" in entry]
    decisions = [decision.number for decision in registry.decisions()]
    return {
        "champion": bundle.version if bundle else None,
        "refused": [one.reason for one in registry.refused],
        "damaged": damaged,
        "decisions": decisions,
    }


def run_point(source: Path, scratch: Path, files: dict[str, bytes], point: int) -> dict[str, Any] | None:
    """Return what is there after a kill before call number `point`; None when the work was done before that."""
    directory = scratch / f"at-{point}"
    shutil.copytree(source, directory)
    child = os.fork()
    if child == 0:
        kill_before(point)
        act(Registry(directory), files)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = outcome(directory)
    again = Registry(directory).save(files, window_rows=100, horizon_rows=10, facts={"reason": "after", "data": {"end_ns": 0}})
    Registry(directory).promote(again)
    found["after"] = outcome(directory)["champion"] == again
    found["number"] = int(again[1:5])
    found["left_over"] = [path.name for path in directory.iterdir() if path.name.startswith((".new-v", ".old-v"))]
    shutil.rmtree(directory)
    return {"point": point, "was_killed": os.WIFSIGNALED(status), **found}


def main() -> None:
    source, listed = Path(sys.argv[1]), Path(sys.argv[2])
    files = {name: base64.b64decode(content) for name, content in json.loads(listed.read_text()).items()}
    point = 0
    while True:
        point += 1
        found = run_point(source, listed.parent, files, point)
        sys.stdout.write(json.dumps(found) + "\n")
        if found is None or not found["was_killed"]:
            return


if __name__ == "__main__":
    main()
