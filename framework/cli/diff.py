"""The verb diff: two runs beside each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.cli.options import JsonOption
from framework.cli.output import say, say_json
from framework.model import NS_PER_S
from framework.research.run_diff import Diff, Parting, compare
from framework.research.run_facts import Fact

MAX_PAIRS_SHOWN = 20
_HELP = "A state directory, or a journal file."
FirstArgument = Annotated[Path, typer.Argument(metavar="RUN_A", help=_HELP)]
SecondArgument = Annotated[Path, typer.Argument(metavar="RUN_B", help=_HELP)]
StrategyOption = Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="Only this strategy.")]


def diff(a: FirstArgument, b: SecondArgument, *, strategy: StrategyOption = None, is_json: JsonOption = False) -> int:
    """Compare two runs (backtest and paper, before and after a change) order by order, and name what came apart first."""
    found = compare(a, b, strategy)
    if is_json:
        say_json(found)
    else:
        say(diff_view(found))
    return 0


def diff_view(found: Diff) -> RenderableType:
    """Return the comparison for a terminal."""
    if found.is_same:
        same = Text(f"The same: {found.facts:,} predictions, decisions, orders, cancels, verdicts and fills; {found.orders_a:,} orders.")
        return Group(same, _beside("all the same they were run with", found.settings)) if found.settings else same
    assert found.parting is not None
    parting = found.parting
    where = f"They part at {_time(parting.ts_event)}, after {parting.number:,} equal facts of {parting.strategy_id}: {parting.cause}.\n"
    unknown = "" if parting.is_explained else "No setting that decides about it differs: the same question had two answers.\n"
    head = Text(where + unknown)
    counts = f"Orders: {found.orders_a:,} in A, {found.orders_b:,} in B, {found.orders_same:,} the same; {found.unexplained} unexplained.\n"
    parts: list[RenderableType] = [head, _beside("first difference", _first(parting)), Text(counts)]
    if parting.behind:
        parts.append(_beside("settings that can be behind it", parting.behind))
    others = {name: pair for name, pair in found.settings.items() if name not in parting.behind}
    if others:
        parts.append(_beside("other settings that differ", others))
    parts.append(_orders(found))
    return Group(*parts)


def _first(parting: Parting) -> dict[str, tuple[Any, Any]]:
    """Return what differs of two facts of one kind; of different things, what each is."""
    is_one_kind = parting.a is not None and parting.b is not None and parting.a.kind == parting.b.kind
    return parting.differs if is_one_kind else _sides(parting.a, parting.b)


def _sides(a: Fact | None, b: Fact | None) -> dict[str, tuple[Any, Any]]:
    return {"at": (_of(a, _at), _of(b, _at)), "what": (_of(a, _told), _of(b, _told))}


def _of(fact: Fact | None, words: Callable[[Fact], str]) -> str | None:
    return None if fact is None else words(fact)


def _at(fact: Fact) -> str:
    return _time(fact.ts_event)


def _told(fact: Fact) -> str:
    facts = (f"{name} {value}" for name, value in fact.what.items() if value not in (None, False, "") and not name.endswith("_ns"))
    return f"{fact.kind}: {', '.join(facts)}"


def _beside(title: str, differing: dict[str, tuple[Any, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("", "A", "B"):
        table.add_column(name, overflow="fold")
    for name, (left, right) in differing.items():
        table.add_row(name, _text(name, left), _text(name, right))
    return table


def _orders(found: Diff) -> Table:
    shown = f" (the first {MAX_PAIRS_SHOWN} of {len(found.pairs):,})" if len(found.pairs) > MAX_PAIRS_SHOWN else ""
    table = Table(title=f"orders that differ{shown}", title_justify="left")
    for name in ("A", "B", "explained"):
        table.add_column(name, overflow="fold")
    for pair in found.pairs[:MAX_PAIRS_SHOWN]:
        table.add_row(_order(pair.a), _order(pair.b), "yes" if pair.is_explained else "NO")
    return table


def _order(fact: Fact | None) -> str:
    if fact is None:
        return "-"
    price = "market" if fact.what["limit_ticks"] is None else f"@ {fact.what['limit_ticks']}"
    return f"{_time(fact.ts_event)} {fact.what['side']} {fact.what['quantity']} {price}"


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return _time(value) if name.endswith(("_ns", "ts_event")) and isinstance(value, int) else str(value)


def _time(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S}.{ns % NS_PER_S // 1_000:06d}"
