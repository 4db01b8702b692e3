"""The verb twin: a recorded run once more, with one thing changed, beside what it was."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from framework.backtest.engine import ML_FORMS
from framework.backtest.latency import FORMS, read_latency
from framework.backtest.twin import Side, Twin, plan_twin, read_change, run_twin
from framework.cli.backtest import KeepOption, new_directory, quiet
from framework.cli.diff import StrategyOption, diff_view
from framework.cli.options import JsonOption
from framework.cli.output import say, say_json
from framework.errors import IntegrityError
from framework.progress import progress_bar

RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The state directory of the run; it may still go on.")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change this, of the strategy's file or the settings.")]
DataOption = Annotated[list[Path], typer.Option("--data", metavar="FILE...", help="Its market, where it is not where the run found it.")]
MLOption = Annotated[str | None, typer.Option("--ml", metavar="SOURCE", help=f"Default: what the run was told. Else {ML_FORMS}.")]
LatencyOption = Annotated[str | None, typer.Option("--latency", metavar="L", help=f"Default: as in the run, one by one. Else {FORMS}.")]
ModelsOption = Annotated[Path | None, typer.Option("--state-dir", metavar="DIR", help="Where models are; default: those of the run.")]
_LABELS = {
    "orders": "orders",
    "fills": "fills",
    "lots": "lots",
    "realized_pnl": "realized PnL",
    "fees": "fees",
    "position": "position left",
}
_MONEY = frozenset({"realized_pnl", "fees"})


def twin(
    run_dir: RunArgument,
    *,
    changes: SetOption = [],  # noqa: B006 (Typer reads the default, nobody changes it)
    strategy: StrategyOption = None,
    data: DataOption = [],  # noqa: B006
    ml: MLOption = None,
    latency: LatencyOption = None,
    keep: KeepOption = None,
    state_dir: ModelsOption = None,
    is_json: JsonOption = False,
) -> int:
    """Repeat a recorded run with a changed setting (or none) and report the gap; exit 6 if the same question had two answers."""
    wanted = dict(read_change(text) for text in changes)
    with ExitStack() as stack:
        folder = new_directory(keep) or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidebook-twin-")))
        plan = plan_twin(
            run_dir,
            keep=folder,
            changes=wanted,
            strategy=strategy,
            data=data,
            ml=ml,
            latency=None if latency is None else read_latency(latency),
            state_dir=state_dir,
        )
        with quiet(), progress_bar(is_quiet=is_json) as on_progress:
            found = run_twin(plan, run_dir, wanted, on_progress)
    if is_json:
        say_json(msgspec.structs.asdict(found) | {"gap": gap(found.run, found.twin)})
    else:
        say(twin_view(found))
    return 0 if found.is_as_asked else IntegrityError.exit_code


def gap(run: Side, other: Side) -> dict[str, Any]:
    """Return what the twin has more than the run."""
    return {name: getattr(other, name) - getattr(run, name) for name in _LABELS}


def twin_view(found: Twin) -> Group:
    """Return the twin beside its run for a terminal."""
    what = ", ".join(f"{name} = {value}" for name, value in found.changed.items()) or "nothing changed"
    table = Table(title=f"{found.strategy} and its twin: {what}", title_justify="left")
    table.add_column()
    for name in ("run", "twin", "gap"):
        table.add_column(name, justify="right")
    for name, more in gap(found.run, found.twin).items():
        digits = ".2f" if name in _MONEY else ""
        table.add_row(_LABELS[name], *(f"{getattr(side, name):,{digits}}" for side in (found.run, found.twin)), f"{more:+,{digits}}")
    asked = f"{found.unanswered:,} times the twin asked where the run received no prediction (it failed, or was not asked for).\n"
    return Group(table, Text(asked if found.unanswered else ""), diff_view(found.diff))
