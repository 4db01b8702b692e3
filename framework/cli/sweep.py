"""The verb sweep: many backtests, or a walk forward through days."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer
from rich.table import Table

from framework.backtest.engine import MODEL, Plan
from framework.backtest.planning import plan_for
from framework.backtest.research import count_try
from framework.backtest.sweep import Grid, Runner, read_axis
from framework.backtest.sweep import sweep as run_sweep
from framework.backtest.walk_forward import GOALS, NET, Step, walk_forward
from framework.cli.backtest import (
    CompiledOption,
    DataOption,
    InstrumentOption,
    LatencyOption,
    LeanOption,
    MLOption,
    SeedOption,
    SettingsOption,
    StrategyOption,
    quiet,
)
from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption, read_config
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.evaluation_job import BACKENDS
from framework.logs import foreign
from framework.progress import progress_bar

SHOWN: Final = 20
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")

VaryOption = Annotated[list[str] | None, typer.Option("--vary", metavar="NAME=V,V,...", help="A parameter and its values; give it again.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", metavar="A..B", help="Seeds of the drawn latencies.")]
LatenciesOption = Annotated[list[str] | None, typer.Option("--latencies", metavar="L", help="Latencies as for backtest; give it again.")]
FeesOption = Annotated[str | None, typer.Option("--fee-factors", metavar="F,F,...", help="Fees times these; 0 is without.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="OUT.parquet", help="The results; started again, a sweep goes on where it was.")]
BackendOption = Annotated[str, typer.Option("--backend", metavar="|".join(BACKENDS), help="Processes here, or a cluster.")]
AddressOption = Annotated[str | None, typer.Option("--address", metavar="HOST:PORT", help="The cluster's scheduler.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, max=1_000, help="How many processes here.")]
WalkOption = Annotated[
    bool, typer.Option("--walk-forward", help="Choose on the recordings so far, judge on the next: one --data for each day, in order.")
]
GoalOption = Annotated[str, typer.Option("--goal", metavar="|".join(GOALS), help="--walk-forward: what the chosen point has most of.")]


def sweep(
    *,
    strategy: StrategyOption,
    data: DataOption,
    out: OutOption,
    vary: VaryOption = None,
    seeds: SeedsOption = None,
    latencies: LatenciesOption = None,
    fee_factors: FeesOption = None,
    ml: MLOption = MODEL,
    latency: LatencyOption = None,
    instrument: InstrumentOption = None,
    settings: SettingsOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    seed: SeedOption = 7,
    backend: BackendOption = BACKENDS[0],
    address: AddressOption = None,
    workers: WorkersOption = 1,
    is_walk: WalkOption = False,
    is_lean: LeanOption = False,
    is_compiled: CompiledOption = False,
    goal: GoalOption = NET,
    is_json: JsonOption = False,
) -> int:
    """Backtest every combination of parameters, seeds, latencies and fees; a sweep that was killed goes on where it was."""
    _check(backend, goal, out)
    main, _ = read_config(settings)
    plan = plan_for(
        strategy,
        data,
        ml=ml,
        latency=latency,
        settings=main,
        instrument_id=instrument,
        state_dir=state_dir,
        seed=seed,
        is_lean=is_lean,
        is_compiled=is_compiled,
    )
    grid = Grid(
        parameters=dict(read_axis(text, plan.deployment) for text in vary or ()),
        seeds=_read_seeds(seeds),
        latencies=tuple(latencies or ()),
        fee_factors=_read_factors(fee_factors),
    )
    with quiet(), progress_bar(is_quiet=is_json) as on_progress:
        runner = Runner(on_progress=on_progress, on_try=lambda: _count(plan), backend=backend, address=address, workers=workers)
        found = walk_forward(plan, grid, out, runner, goal=goal) if is_walk else run_sweep(plan, grid, out, runner)
    _say(found, out, goal, is_json=is_json)
    return 0


def _say(found: pl.DataFrame | Sequence[Step], out: Path, goal: str, *, is_json: bool) -> None:
    if isinstance(found, pl.DataFrame):
        _say_points(found, out, is_json=is_json)
    else:
        _say_steps(found, out, goal, is_json=is_json)


def _check(backend: str, goal: str, out: Path) -> None:
    for name, value, allowed in (("--backend", backend, BACKENDS), ("--goal", goal, tuple(GOALS))):
        if value not in allowed:
            raise ConfigError(f"{name}: found {foreign(value, 40)}; allowed {', '.join(allowed)}")
    if out.suffix != ".parquet" or not out.parent.is_dir():
        raise ConfigError(f"--out {out}: allowed a name that ends in .parquet, in a folder that is there")


def _say_points(table: pl.DataFrame, out: Path, *, is_json: bool) -> None:
    if is_json:
        say_json({"out": str(out), "points": len(table), "failed": int((table["error"] != "").sum()), "best": table.head(1).to_dicts()})
    else:
        say(_view(table, out))


def _say_steps(steps: Sequence[Step], out: Path, goal: str, *, is_json: bool) -> None:
    total = sum(GOALS[goal](step.found) for step in steps if not step.found.error)
    hindsight = sum(step.hindsight for step in steps)
    if is_json:
        say_json({"out": str(out), "goal": goal, "total": total, "hindsight": hindsight, "steps": steps})
        return
    say(_walk_view(steps, f"Each recording with the point that those before it chose by {goal}; all of it is in {out}", goal))
    say(f"{goal} over all of them {_cell(total)}; with hindsight {_cell(hindsight)}")


def _walk_view(steps: Sequence[Step], title: str, goal: str) -> Table:
    view = Table(title=title, title_justify="left")
    for name in ("recording", "chosen"):
        view.add_column(name, overflow="fold")
    for name in ("before", f"{goal} here", "trades", "hindsight"):
        view.add_column(name, justify="right", no_wrap=True)
    for step in steps:
        chosen = "\n".join(foreign(f"{name.removeprefix('parameters.')}={value}", 80) for name, value in step.chosen.items())
        here = foreign(step.found.error, 60) or _cell(GOALS[goal](step.found))
        trades = _cell(step.found.figures.get("trades"))
        view.add_row(foreign(step.recording, 60), chosen, _cell(step.before), here, trades, _cell(step.hindsight))
    return view


def _count(plan: Plan) -> None:
    count_try(plan, wall_time_ns())


def _read_seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    found = _RANGE.fullmatch(text)
    if found is None or not int(found[1]) <= int(found[2]) < 2**31:
        raise ConfigError(f"--seeds: found {foreign(text, 40)}; allowed a range such as 1..20")
    return tuple(range(int(found[1]), int(found[2]) + 1))


def _read_factors(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        factors = (-1.0,)
    if not all(0 <= factor <= 1_000 for factor in factors):
        raise ConfigError(f"--fee-factors: found {foreign(text, 60)}; allowed numbers from 0 to 1000 such as 0,1,2")
    return factors


def _view(table: pl.DataFrame, out: Path) -> Table:
    varied = table.columns[: table.columns.index("net")]
    view = Table(title=f"{len(table):,} points, best first; all of them are in {out}", title_justify="left")
    for name in (*varied, "net", "gross", "trades", "Sharpe", "beats luck", "error"):
        view.add_column(name.removeprefix("parameters."), justify="right")
    for line in table.head(SHOWN).to_dicts():
        figures = [_cell(line[name]) for name in ("net", "gross", "trades", "sharpe")]
        view.add_row(*(_cell(line[name]) for name in varied), *figures, "yes" if line["beats_luck"] else "no", line["error"][:60])
    return view


def _cell(value: object) -> str:
    return (
        "-"
        if value is None
        else f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:,.2f}"
        if isinstance(value, float)
        else str(value)
    )
