"""Verbs on the journal: state verify, replay, diff, export, tail. They only read, also while a process runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.cli.tail import state_tail
from framework.errors import ConfigError, IntegrityError, StorageError
from framework.logs import foreign
from framework.operations import state_views as views
from framework.trading.fold import Facts

UntilOption = Annotated[int | None, typer.Option("--until", metavar="SEQ", help="The last record to take; default all.")]
SinceOption = Annotated[int, typer.Option("--since", metavar="SEQ", min=1, help="The first record.")]
KindOption = Annotated[list[str], typer.Option("--kind", metavar="NAME", help="Only records of this kind; may be repeated.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there instead of to the terminal; not over a file.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Exit 6 if they differ.")]
FirstArgument = Annotated[str, typer.Argument(metavar="A", help="A record's number, or another state directory or journal.")]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The same.")]


def build() -> typer.Typer:
    """Return the group of verbs."""
    group = typer.Typer(help="Check the journal, and see what it adds up to.", no_args_is_help=True)
    for name, verb, example in (
        ("verify", verify, "state verify"),
        ("replay", replay, "state replay --until 1200"),
        ("diff", diff, "state diff 1200 1300"),
        ("export", export, "state export --kind ExecutionReport --out reports.jsonl"),
        ("tail", state_tail, "state tail --follow --kind SubmitOrder --kind ExecutionReport"),
    ):
        group.command(name, epilog=f"Example: python main.py {example}")(verb)
    return group


def verify(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """Check every record and every snapshot; exit 6 naming the first that does not hold."""
    with views.reading(state_dir) as journal:
        found = views.verify(journal)
    if is_json:
        say_json(found)
        return 0
    table = Table(title=f"{found.records:,} records: the chain holds", title_justify="left", show_header=False)
    for kind, count in found.by_kind.items():
        table.add_row(foreign(kind, 60), f"{count:,}")
    table.add_row("snapshots that hold, at record", ", ".join(map(str, found.snapshots)) or "none")
    table.add_row("the last run", "ended in order" if found.ended_in_order else "runs, or was killed")
    table.add_row("digest of the state", found.state_digest)
    say(table)
    return 0


def replay(*, until: UntilOption = None, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """Show the state behind a record: orders, positions, trading state."""
    with views.reading(state_dir) as journal:
        facts = views.state_at(journal, until)
    if is_json:
        say_json(facts)
    else:
        say(_facts(facts))
    return 0


def diff(
    a: FirstArgument,
    b: SecondArgument,
    *,
    is_checking: CheckOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Show what differs between two states."""
    found = tuple(views.differences(views.state_named(a, state_dir), views.state_named(b, state_dir)))
    if is_json:
        say_json(found)
    else:
        table = Table(title=f"{len(found)} facts differ", title_justify="left")
        for name in ("fact", "a", "b"):
            table.add_column(name, overflow="fold")
        for one in found:
            table.add_row(foreign(one.path, 200), foreign(str(one.a), 200), foreign(str(one.b), 200))
        say(table)
    return IntegrityError.exit_code if is_checking and found else 0


def export(
    *,
    since: SinceOption = 1,
    until: UntilOption = None,
    kind: KindOption = [],  # noqa: B006 (Typer reads the default, nobody changes it)
    out: OutOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> int:
    """Write records as lines of JSON."""
    with views.reading(state_dir) as journal:
        found = views.lines(journal, since=since, until=until, kinds=tuple(kind))
        if out is None:
            for line in found:
                say_json(line)
            return 0
        try:
            with out.open("xb") as file:
                count = sum(file.write(msgspec.json.encode(line) + b"\n") > 0 for line in found)
        except FileExistsError as exc:
            raise ConfigError(f"--out: found the file {foreign(str(out))}; allowed one that does not exist yet") from exc
        except OSError as exc:
            raise StorageError(f"--out: {foreign(str(out))}: {exc.strerror}") from exc
    sys.stderr.write(f"{count:,} records written to {foreign(str(out))}\n")
    return 0


def _facts(facts: Facts) -> RenderableType:
    positions, orders = Table(title="Positions", title_justify="left"), Table(title="Open orders", title_justify="left")
    for name in ("strategy", "instrument", "lots", "fees"):
        positions.add_column(name)
    for one in facts.positions:
        row: tuple[Any, ...] = (
            foreign(one.strategy_id, 64),
            foreign(one.instrument.instrument_id, 80),
            f"{one.quantity:+d}",
            str(one.fees),
        )
        positions.add_row(*row)
    for name in ("order", "side", "lots", "filled", "limit ticks", "status"):
        orders.add_column(name)
    for order in facts.orders:
        orders.add_row(
            foreign(order.intent.client_order_id, 80),
            order.intent.side,
            str(order.quantity),
            str(order.filled_quantity),
            str(order.limit_ticks),
            order.status,
        )
    return Group(f"trading is {facts.state} {foreign(facts.state_reason)}".rstrip(), positions, orders)
