"""The counterfactual twin: a recorded run once more, with what it saw and was told, and one thing changed; or nothing, then it is the same.

The twin is a backtest of what the run's journal says it was: market, settings, strategy, predictions and how long each took. Its journal
is compared with the run's fact by fact, so that the gap between both has a first cause.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pydantic

from framework.backtest.engine import MODEL, OFF, RECORDED, Plan, Source, check_instrument, execute, prepare
from framework.backtest.latency import Latency
from framework.config import MainConfig
from framework.errors import ConfigError
from framework.logs import foreign
from framework.market.catalogue.reading import is_known, open_market
from framework.messages import ReportKind
from framework.operations import deployments
from framework.operations.deployments import Deployment, read_deployment
from framework.operations.lineup import demo
from framework.operations.options import SIMULATED
from framework.operations.state_views import reading, runs
from framework.progress import Progress
from framework.research.run_diff import Diff, compare
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.records import RunEnded, RunStarted

MARKET_ENDED: Final = "the market has ended"
_ROOMS: Final = tuple(sorted(MainConfig.model_fields.keys() - {"ml_service"}))


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What one of both did with the strategy. Money in the account's currency; `realized_pnl` is before fees, `position` what is left."""

    orders: int
    fills: int
    lots: int
    realized_pnl: Decimal
    fees: Decimal
    position: int


class Twin(msgspec.Struct, frozen=True, kw_only=True):
    """A run and its twin: `changed` is what was set otherwise, `unanswered` counts predictions that the run did not have."""

    strategy: str
    changed: dict[str, Any]
    run: Side
    twin: Side
    unanswered: int
    diff: Diff

    @property
    def is_as_asked(self) -> bool:
        """Return whether nothing is left unexplained."""
        return self.diff.unexplained == 0


class InOrder:
    """The round trips of a run, one after the other as they were; from the start again when there are no more."""

    def __init__(self, round_trips_ms: Sequence[float]) -> None:
        self._next_ms = itertools.cycle(round_trips_ms)

    @property
    def name(self) -> str:
        """Return how it is called."""
        return "as in the run"

    def draw_ms(self, random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the next `count`."""
        del random
        return np.fromiter(itertools.islice(self._next_ms, count), np.float64, count)


def plan_twin(
    run_dir: Path,
    *,
    keep: Path,
    changes: Mapping[str, Any] | None = None,
    strategy: str | None = None,
    data: Sequence[Path] = (),
    ml: str | None = None,
    latency: Latency | None = None,
    state_dir: Path | None = None,
) -> Plan:
    """Return the backtest that repeats a run with some changes. Raises `ConfigError` for what cannot be, `StartRefused` without a run."""
    with reading(run_dir) as journal:
        started = _only_run(journal, run_dir)
        deployment = _deployment(journal, started, strategy)
        end_ns = _end_ns(journal)
        has_predictions = bool(journal.after(0, ("PredictionReceived",), 1))
    if not started.settings:
        raise ConfigError(f"{run_dir}: this run did not write its settings down (an older Tidebook made it); it has no twin")
    paths = tuple(data) or _market(started)
    deployment, settings = changed(deployment, MainConfig.model_validate_json(started.settings, strict=False), changes or {})
    feed = open_market([str(path) for path in paths])
    check_instrument(deployment, feed.instruments)
    feed.stop()
    return Plan(
        deployment=deployment,
        data=paths,
        settings=settings,
        ml=ml or (f"{RECORDED}:{run_dir}" if has_predictions else OFF),
        latency=latency,
        to_ns=end_ns,
        state_dir=state_dir or run_dir,
        keep=keep,
        seed=started.seed,
    )


def run_twin(plan: Plan, run_dir: Path, changes: Mapping[str, Any], on_progress: Progress) -> Twin:
    """Run the twin and compare it with its run. Blocks. Raises `TidebookError` when it cannot run."""
    assert plan.keep is not None
    source = prepare(plan, on_progress)
    execute(_as_timed(plan, source), source, on_progress)
    name = plan.deployment.file.name
    return Twin(
        strategy=name,
        changed=dict(changes),
        run=_side(run_dir, name),
        twin=_side(plan.keep, name),
        unanswered=source.answers.misses if source.answers is not None and source.kind != MODEL else 0,
        diff=compare(run_dir, plan.keep, name),
    )


def _as_timed(plan: Plan, source: Source) -> Plan:
    """Let each prediction take as long as it took in the run, unless a latency is asked for."""
    if plan.latency is not None or not source.round_trips_ms:
        return plan
    return replace(plan, latency=InOrder(source.round_trips_ms))


# --- what the run was --------------------------------------------------------------------------------------------------------


def _only_run(journal: Journal, run_dir: Path) -> RunStarted:
    found = runs(journal)
    if len(found) != 1:
        raise ConfigError(
            f"{run_dir}: its journal has {len(found)} runs; a twin repeats one that began flat and alone: start with a new --state-dir"
        )
    return found[0]


def _deployment(journal: Journal, started: RunStarted, name: str | None) -> Deployment:
    """Return the strategy of the run. One that was deployed again since is another one, which the comparison then says."""
    stored = journal.deployments()
    found = [deployments.recall(one) for one in stored.values()] or [demo(one.instrument_id) for one in started.instruments]
    chosen = [one for one in found if name in (None, one.file.name)]
    if len(chosen) != 1:
        there = ", ".join(one.file.name for one in found)
        raise ConfigError(f"--strategy: found {foreign(name or 'none', 80)}; this run traded {there}; name one of them")
    return chosen[0]


def _end_ns(journal: Journal) -> int | None:
    """Return where the twin must end: where its run was ended, unless it saw the whole market."""
    ended = [record.message for record in journal.records("RunEnded") if isinstance(record.message, RunEnded)]
    return ended[-1].ts_event + 1 if ended and ended[-1].reason != MARKET_ENDED else None


def _market(started: RunStarted) -> tuple[Path, ...]:
    if started.market == (SIMULATED,):
        if not started.record_dir:
            raise ConfigError("the run traded on the simulated market without recording it: start with --record DIR, then it has a twin")
        return (Path(started.record_dir),)
    gone = [name for name in started.market if not is_known(name)]
    if gone:
        raise ConfigError(f"the run's market is not here: {foreign(', '.join(gone), 300)}; say where it is with --data")
    return tuple(Path(name) for name in started.market)


# --- what is changed -----------------------------------------------------------------------------------------------------------


def read_change(text: str) -> tuple[str, Any]:
    """Read `key=value` of `--set`; a value that is no JSON is a text. Raises `ConfigError`."""
    name, separator, value = text.partition("=")
    if not separator or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"--set: found {foreign(text, 80)}; allowed KEY=VALUE, such as parameters.entry_threshold=0.4 or paper.queue_model=log"
        )
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def changed(deployment: Deployment, settings: MainConfig, changes: Mapping[str, Any]) -> tuple[Deployment, MainConfig]:
    """Return strategy and settings with some keys set otherwise. Raises `ConfigError` for a key or a value that is not allowed."""
    of_main = {name: value for name, value in changes.items() if name.startswith(tuple(f"{room}." for room in _ROOMS))}
    of_file = {name: value for name, value in changes.items() if name not in of_main}
    return _changed_strategy(deployment, of_file), _changed_settings(settings, of_main)


def _changed_settings(settings: MainConfig, changes: Mapping[str, Any]) -> MainConfig:
    tree = settings.model_dump(mode="json")
    for name, value in changes.items():
        _put(tree, name, value)
    try:
        return MainConfig.model_validate(tree, strict=False)
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"--set {where}: found {foreign(str(first['input']), 80)}; {foreign(first['msg'], 200)}") from exc


def _changed_strategy(deployment: Deployment, changes: Mapping[str, Any]) -> Deployment:
    if not changes:
        return deployment
    tree = deployment.file.model_dump(mode="json", exclude_none=True)
    for name, value in changes.items():
        _put(tree, name, value)
    return read_deployment(json.dumps(tree, indent=1), f"{deployment.path} with --set {' '.join(changes)}")


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *rooms, key = name.split(".")
    for room in rooms:
        inner = tree.setdefault(room, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {name}: {room} is one setting and has none of its own")
        tree = inner
    tree[key] = value


# --- what came of it -----------------------------------------------------------------------------------------------------------


def _side(path: Path, strategy_id: str) -> Side:
    with reading(path) as journal:
        own = {record.key for record in journal.records("SubmitOrder") if getattr(record.message, "strategy_id", "") == strategy_id}
        reports = [record.message for record in journal.records("ExecutionReport") if record.key in own]
        everything = replay(journal).blotter.portfolio.everything()
    positions = [position for (owner, _), position in everything.items() if owner == strategy_id]
    lots = [getattr(one, "last_quantity", 0) for one in reports if getattr(one, "kind", None) is ReportKind.FILLED]
    return Side(
        orders=len(own),
        fills=len(lots),
        lots=sum(lots),
        realized_pnl=sum((one.realized_pnl for one in positions), Decimal(0)),
        fees=sum((one.fees for one in positions), Decimal(0)),
        position=sum(one.quantity for one in positions),
    )
