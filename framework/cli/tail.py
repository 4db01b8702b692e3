"""The verb state tail: the last records of a journal, and those that come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say_line
from framework.operations.state_dir import StateDir
from framework.operations.state_views import line_of, reading
from framework.research.journal_tail import MOST, check_kinds, tail
from framework.research.record_words import record_line
from framework.trading.journal import Record

POLL_S: Final = 0.25
CountOption = Annotated[int, typer.Option("-n", "--lines", metavar="N", min=0, max=MOST, help="How many of the last records.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")]
KindOption = Annotated[list[str], typer.Option("--kind", metavar="NAME", help="Only records of this kind; may be repeated.")]


def state_tail(
    *,
    count: CountOption = 20,
    is_following: FollowOption = False,
    kind: KindOption = [],  # noqa: B006 (Typer reads the default, nobody changes it)
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Show the last records in readable lines, also while a process runs: its last second is not there yet."""
    words = _json if is_json else record_line
    try:
        return _show(state_dir, count, tuple(kind), words, _wait if is_following else None)
    except KeyboardInterrupt:
        if not is_following:
            raise
        return 0  # the only way in which following ends


def _show(
    state_dir: StateDirOption, count: int, kinds: tuple[str, ...], words: Callable[[Record], str], wait: Callable[[], bool] | None
) -> int:
    path = StateDir(state_dir).journal if state_dir.is_dir() else state_dir
    with reading(state_dir) as journal:
        check_kinds(journal, kinds)
        for record in tail(journal, path, count=count, kinds=kinds, wait=wait):
            if not say_line(words(record)):
                break
    return 0


def _wait() -> bool:
    time.sleep(POLL_S)
    return True


def _json(record: Record) -> str:
    return msgspec.json.encode(line_of(record)).decode()
