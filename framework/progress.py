"""How far a long piece of work is, for the person who waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from framework.logs import foreign

Progress = Callable[[str, float], None]
"""Told the stage and the share of the work that is done, 0 to 1."""

STAGE_CHARACTERS = 40


def unseen(_stage: str, _share: float) -> None:
    """Tell nobody."""


def is_watched(*, is_quiet: bool = False) -> bool:
    """Return whether somebody looks at stderr and wants to be told."""
    return not is_quiet and sys.stderr.isatty()


@contextmanager
def progress_bar(*, is_quiet: bool = False, otherwise: Progress = unseen, is_kept: bool = False) -> Iterator[Progress]:
    """Yield a function that moves a bar on a terminal; elsewhere, or when quiet, yield `otherwise`."""
    if not is_watched(is_quiet=is_quiet):
        yield otherwise
        return
    columns = (TextColumn(f"{{task.description:<{STAGE_CHARACTERS}}}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=not is_kept) as bars:
        task = bars.add_task("starting", total=1.0)
        yield lambda stage, share: bars.update(task, description=foreign(stage, STAGE_CHARACTERS), completed=share)
