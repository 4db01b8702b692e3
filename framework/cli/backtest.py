"""The verb backtest: a strategy over recordings."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from framework.backtest.engine import LIVE, ML_FORMS, MODEL, OFF, Plan, prepare
from framework.backtest.latency import FORMS
from framework.backtest.picture import write_picture
from framework.backtest.planning import plan_for
from framework.backtest.profiling import record_profile
from framework.backtest.report import write_report
from framework.backtest.research import Backtest, count_try, executed, measured, over_latencies, with_capacity
from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption, read_config
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.logs import foreign, reset_logging, setup_logging
from framework.model import NS_PER_S
from framework.progress import Progress, progress_bar

LATENCY_GRID_MS: Final = (0.0, 5.0, 50.0, 250.0, 1_000.0)
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?Z?")

StrategyOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The strategy's YAML file, as for deploy-strategy.")]
DataOption = Annotated[list[Path], typer.Option("--data", metavar="FILE...", help="Recordings, in any format that start replays.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Begin there, UTC: 2025-06-05 or 2025-06-05T01:30:00.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End before it.")]
MLOption = Annotated[str, typer.Option("--ml", metavar="SOURCE", help=f"Where predictions come from: {ML_FORMS}.")]
LatencyOption = Annotated[str | None, typer.Option("--latency", metavar="L", help=f"How long a prediction takes in market time: {FORMS}.")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="OUT.html", help="Write the whole report here, for a browser.")]
PictureOption = Annotated[Path | None, typer.Option("--png", metavar="OUT.png", help="Draw the report as one picture.")]
KeepOption = Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="Keep the run's journal in this new state directory.")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", metavar="ID", help="Trade this one instead of instrument_id.")]
SettingsOption = Annotated[Path | None, typer.Option("--settings", metavar="FILE", help="Main settings; default config/main.yaml.")]
LeanOption = Annotated[
    bool,
    typer.Option(
        "--lean", help="Without the trading process around it: the same fills, many times as fast; no predictions, bars or stops."
    ),
]
CompiledOption = Annotated[
    bool,
    typer.Option("--compiled", help="A CompiledStrategy and all around it in one compiled loop: the same fills, at millions of events."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of drawn latencies.")]


def backtest(
    *,
    strategy: StrategyOption,
    data: DataOption,
    from_: FromOption = None,
    to: ToOption = None,
    ml: MLOption = MODEL,
    latency: LatencyOption = None,
    report: ReportOption = None,
    png: PictureOption = None,
    keep: KeepOption = None,
    instrument: InstrumentOption = None,
    settings: SettingsOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    seed: SeedOption = 7,
    is_lean: LeanOption = False,
    is_compiled: CompiledOption = False,
    is_json: JsonOption = False,
) -> int:
    """Run a strategy over recordings: the same actors, gate and matching as live, predictions after their latency, every try counted."""
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
        from_ns=_read_time("--from", from_),
        to_ns=_read_time("--to", to),
        keep=new_directory(keep),
        is_lean=is_lean,
        is_compiled=is_compiled,
    )
    _check_writable("--report", report)
    _check_writable("--png", png)
    with quiet(), progress_bar(is_quiet=is_json) as on_progress:
        found, curve = _run(plan, on_progress, is_whole=report is not None or png is not None)
    if report is not None:
        write_report(report, found, curve)
    if png is not None:
        write_picture(png, found, curve)
    if is_json:
        say_json(found.facts | {"warnings": found.warnings} | ({"latency_curve": curve} if curve else {}))
    else:
        say(result_view(found, [path for path in (report, png) if path is not None]))
    return 0


def latency(
    action: Annotated[str, typer.Argument(metavar="record", help="Write the round trips of a run's predictions as a profile.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.json", help="The profile, for backtest --latency.")] = Path("latency.json"),
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Measure latency: take the round trips of the predictions that a run in real time received."""
    if action != "record":
        raise ConfigError(f"latency: found {foreign(action, 40)}; allowed record")
    profile = record_profile(state_dir, out)
    facts = {"out": str(out), "round_trips": len(profile.round_trips_ms), **profile.quantiles_ms()}
    if is_json:
        say_json(facts)
    else:
        shares = ", ".join(f"{name} {value:.2f} ms" for name, value in profile.quantiles_ms().items())
        say(f"{facts['round_trips']} round trips of {profile.source} are in {out}: {shares}")
    return 0


def _run(plan: Plan, on_progress: Progress, *, is_whole: bool) -> tuple[Backtest, list[dict[str, Any]]]:
    source = prepare(plan, on_progress)
    log, number, sharpes = count_try(plan, wall_time_ns())
    found = measured(executed(plan, source, on_progress), trials=number, earlier_sharpes=sharpes)
    log.end(found.facts["deflated_sharpe"]["sharpe"])
    if not is_whole:
        return found, []
    has_predictions = source.kind not in (OFF, LIVE)
    return with_capacity(found), over_latencies(plan, source, LATENCY_GRID_MS, on_progress) if has_predictions else []


def _read_time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not _TIME.fullmatch(text):
        raise ConfigError(f"{option}: found {foreign(text, 60)}; allowed a UTC time such as 2025-06-05 or 2025-06-05T01:30:00")
    try:
        when = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError as exc:
        raise ConfigError(f"{option}: found {foreign(text, 60)}; {exc}") from exc
    return round(when.replace(tzinfo=UTC).timestamp() * 1e6) * 1_000


def new_directory(keep: Path | None) -> Path | None:
    """Return the directory of `--keep`, which is not there or empty. Raises `ConfigError` if something is in it."""
    if keep is not None and keep.exists() and any(keep.iterdir() if keep.is_dir() else [keep]):
        raise ConfigError(f"--keep {keep}: is there already; a run begins with an empty state directory")
    return keep


def _check_writable(option: str, path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")


@contextmanager
def quiet() -> Iterator[None]:
    """Let no log line between the progress bar and the result; what matters is in the result."""
    setup_logging(level="ERROR", stream=sys.stderr)
    try:
        yield
    finally:
        reset_logging()


def result_view(found: Backtest, written: Sequence[Path] = ()) -> Group:
    """Return the result for a terminal: figures, then what a reviewer would say."""
    facts = found.facts
    table = Table(title=f"Backtest of {facts['strategy']} on {facts['instrument_id']}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for label, value in _lines(facts):
        table.add_row(label, value)
    words = [Text(f"! {warning}", style="yellow") for warning in found.warnings]
    last = [Text(f"The report is in {' and '.join(str(path) for path in written)}")] if written else []
    return Group(table, *words, *last)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    sharpe, currency = facts["deflated_sharpe"], facts["currency"]
    period = " to ".join(datetime.fromtimestamp(facts[name] / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M") for name in ("start_ns", "end_ns"))
    return [
        ("period (UTC)", period),
        ("predictions from", f"{facts['ml']} {facts['model_version'] or ''}".strip()),
        ("prediction latency (ms)", facts["latency"]),
        ("market events", f"{facts['events']:,}"),
        ("predictions, failed", f"{facts['predictions']:,}, {facts['predictions_failed']:,}"),
        ("orders, fills, lots", f"{facts['orders']:,}, {facts['fills']:,}, {facts['lots_traded']:,}"),
        ("trades, won", f"{facts['trades']:,}, {_share(facts['win_rate'])}"),
        (f"net ({currency})", f"{facts['net']:,.2f}"),
        (f"before fees ({currency})", f"{facts['gross']:,.2f}"),
        (f"fees ({currency})", f"{facts['fees']:,.2f}"),
        (f"largest drawdown ({currency})", f"{facts['max_drawdown']:,.2f}"),
        (f"turnover ({currency}), net of it (bp)", f"{facts['turnover']:,.0f}, {_number(facts['net_bp'])}"),
        ("slippage from the mid (ticks a fill)", _number(facts["slippage_ticks"])),
        ("time in the market", _share(facts["exposure"])),
        ("Sharpe ratio of minutes", _number(sharpe["sharpe"])),
        ("probability of skill, deflated", f"{_share(sharpe['probability'])} after {facts['trials']} tries"),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}"
