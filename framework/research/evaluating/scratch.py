"""The scratch directory of a run: gone when the run ends, however it ends; what a killed run left goes with the next one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from framework.errors import StorageError
from framework.research.learning_child import terminated_as_interrupt

PREFIX: Final = "tidebook-evaluate-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Give a directory of mode 0700; SIGTERM unwinds like an interrupt as long as it is there. Raises `StorageError`."""
    _sweep()
    try:
        directory = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
    except OSError as exc:
        raise StorageError(f"no scratch directory in {tempfile.gettempdir()}: {exc.strerror}; set TMPDIR to another one") from exc
    with directory as path, terminated_as_interrupt():
        yield Path(path)


def _sweep() -> None:
    """Remove what runs left that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number that a process can have
        return True
    return True
