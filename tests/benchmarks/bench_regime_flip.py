"""What learning in production is worth when the market turns: the simulated market's signal flips its sign in the middle of a run.

    python -m tests.benchmarks.bench_regime_flip [--seeds 10] [--out flip.svg] [--json flip.json] [--add flip.json ...] [--quick]

Three models answer every row after the flip: the *frozen* champion of before; the *closed loop* (it is retrained on the newest rows
every `--retrain-rows`, with time decay; each version stands trial against the champion on the windows that strategies would have
asked about, and serves once it has won); and the *oracle*, trained on another market that had the flipped sign all along. Skill is
2 AUC - 1 of up against down, in chunks of 1,000 rows. The goal: over the last `SCORED_ROWS` the closed loop has at least 80 % of the
oracle's skill, and the frozen model has lost (skill below zero). Prints one JSON object; `--out` draws the mean over the seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from framework.clock import EventClock
from framework.config import SimulatedMarketConfig
from framework.kernel.bus import EventBus
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, MarketEvent
from framework.plots import COLOURS, Axes, Series, line_chart
from framework.venues.simulated import DEFAULT_START_NS, generate_history
from framework.venues.simulated_tape import INSTRUMENT
from framework.window import Float64Array, Rows
from ml_actor.calibration import up_given_move
from ml_actor.evaluation import auc
from ml_actor.features.engine import select
from ml_actor.labels import UP, label_rows
from ml_actor.learning import Learning
from ml_actor.models import ModelBundle
from ml_actor.pipeline import train_on
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult
from ml_actor.trial import Rules

CHUNK_ROWS: Final = 1_000
SCORED_ROWS: Final = 6_000
GOAL: Final = 0.8
BOOK_INTERVAL_MS: Final = 500.0
"""Slower books than the default: more moves a row, so that a chunk of rows says something about skill."""

ORACLE_SEED: Final = 500_009


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, and how the loop learns."""

    before_rows: int = 12_000
    after_rows: int = 20_000
    retrain_rows: int = 2_000
    max_rows: int = 10_000
    half_life_rows: float = 2_500.0
    ask_rows: int = 3
    horizon_rows: int = 10


@dataclass
class Loop:
    """The closed loop's registry, what serves, and since which row."""

    directory: Path
    plan: Plan
    serving: list[tuple[int, ModelBundle]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    row: int = 0

    def __post_init__(self) -> None:
        self.registry = Registry(self.directory, wall_ns=time.time_ns)
        self.learning = Learning(self.registry, rules=Rules(), is_shadowing=True, is_lockstep=True, versions_kept=10, wall_ns=lambda: 0)
        self.learning.serve = self._serve
        self.watched: Any = None

    def _serve(self, predictor: Any) -> None:
        self.serving.append((self.row, predictor))
        self.watched = self.learning.watch(predictor)

    def train(self, newest: Rows, *, reason: str) -> TrainingResult:
        """Train, as the training child does."""
        plan = self.plan
        job = TrainingJob(
            job_id=reason,
            dataset_dir="",
            models_dir=str(self.directory),
            reason=reason,
            horizon_rows=plan.horizon_rows,
            half_life_rows=plan.half_life_rows,
        )
        recording = Recording(instrument_id=INSTRUMENT.instrument_id, tick_size=0.25, has_trades=True, rows=newest)
        return train_on([recording], job, feedback=(), refused_parts=(), report=lambda *_: None)

    async def run(self, rows: Rows) -> None:
        """Serve `rows` from the flip on, retraining on the way."""
        plan = self.plan
        recording = Recording(instrument_id=INSTRUMENT.instrument_id, tick_size=0.25, has_trades=True, rows=rows)
        due = plan.before_rows + plan.retrain_rows
        for self.row in range(plan.before_rows, len(rows), plan.ask_rows):
            if self.row >= due:
                due += plan.retrain_rows
                newest = select(rows, slice(max(0, self.row - plan.max_rows), self.row))
                result = self.train(newest, reason=f"{self.row - plan.before_rows} rows after the flip")
                self.refused += [] if result.ok else [result.reason]
                if result.ok:
                    await self.learning.take(result)
            self.watched.predict(window_at(recording, self.row, 100))
            self.learning.settle()
        await self.learning.close()


def rows_of(events: Iterable[MarketEvent], count: int) -> Rows:
    """Turn events into DOM rows through the actors that do it live."""
    bus, clock = EventBus(), EventClock()
    buffer = DomBuffer(INSTRUMENT, 1_000)
    actor = DomBufferActor(bus, buffer)
    bus.register(actor)
    actor.on_start()
    market = MarketData(bus, clock, (INSTRUMENT,))
    parts, taken = [], 0
    for event in events:
        clock.advance_to(event.ts_event)
        market.accept(event)
        bus.drain()
        if isinstance(event, BookSnapshot) and buffer.total_rows - taken >= 500:
            parts.append(buffer.rows_since(taken))
            taken = buffer.total_rows
            if taken >= count:
                break
    return Rows(**{name: np.concatenate([getattr(part, name) for part in parts])[:count] for name in Rows.__dataclass_fields__})


def market(seed: int, rows: int, *, flip_at_row: int) -> Rows:
    """Return `rows` rows; the signal has its other sign from about `flip_at_row` on."""
    settings = SimulatedMarketConfig(book_interval_ms=BOOK_INTERVAL_MS)
    step_s = settings.book_interval_ms / 1e3
    events = generate_history(
        settings, seed=seed, start_ns=DEFAULT_START_NS, duration_s=int(rows * step_s * 1.2) + 60, flip_signal_at_s=flip_at_row * step_s
    )
    return rows_of(events, rows)


def skills(probabilities: Float64Array, rows: Rows, start: int, horizon_rows: int) -> list[float]:
    """Return 2 AUC - 1 of up against down per chunk from row `start` on."""
    labels = label_rows(rows, horizon_rows=horizon_rows, min_history=10)
    found = []
    for chunk in range(start, len(rows) - CHUNK_ROWS + 1, CHUNK_ROWS):
        moved = np.flatnonzero(labels.is_valid[chunk : chunk + CHUNK_ROWS] & (labels.moves[chunk : chunk + CHUNK_ROWS] != 0)) + chunk
        found.append(2 * auc(up_given_move(probabilities[moved]), labels.classes[moved] == UP) - 1)
    return found


def one_seed(seed: int, plan: Plan, keep: Path | None = None) -> dict[str, Any]:
    """Run one market, and return the skills of the three models and what was decided; `keep` is where the registry stays."""
    begun_s = time.monotonic()
    rows = market(seed, plan.before_rows + plan.after_rows, flip_at_row=plan.before_rows)
    with tempfile.TemporaryDirectory(prefix="flip-") as scratch:
        loop = Loop(Path(scratch) / "models", plan)
        loop.row = plan.before_rows
        first = loop.train(select(rows, slice(0, plan.before_rows)), reason="before the flip")
        asyncio.run(_take_and_run(loop, first, rows))
        oracle = _oracle(Path(scratch) / "oracle", seed, plan)
        predictions = {bundle.version: bundle.predict_rows(rows, has_trades=True) for _, bundle in loop.serving}
        if keep is not None:
            shutil.copytree(loop.directory, keep / "models")
        acts = [(one.act, one.version, one.reason) for one in loop.registry.decisions()]
    frozen = predictions[loop.serving[0][1].version]
    served = frozen.copy()
    for since, bundle in loop.serving:
        served[since:] = predictions[bundle.version][since:]
    start, horizon = plan.before_rows, plan.horizon_rows
    return {
        "seed": seed,
        "closed_loop": skills(served, rows, start, horizon),
        "frozen": skills(frozen, rows, start, horizon),
        "oracle": skills(oracle.predict_rows(rows, has_trades=True), rows, start, horizon),
        "swaps_after_rows": [since - start for since, _ in loop.serving[1:]],
        "decisions": acts,
        "trainings_refused": loop.refused,
        "took_s": round(time.monotonic() - begun_s, 1),
    }


async def _take_and_run(loop: Loop, first: TrainingResult, rows: Rows) -> None:
    if not first.ok:
        raise SystemExit(f"no model to begin with: {first.reason}")
    # Whether its skill was already certain does not matter here: somebody has to be champion.
    first = msgspec.structs.replace(first, promote=True, is_first=True)
    loop.learning.start(lambda work: asyncio.to_thread(work))
    await loop.learning.take(first)
    await loop.run(rows)


def _oracle(directory: Path, seed: int, plan: Plan) -> ModelBundle:
    loop = Loop(directory, plan)
    rows = market(seed + ORACLE_SEED, plan.max_rows, flip_at_row=0)
    result = loop.train(rows, reason="the flipped market")
    return loop.registry.load(result.version)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean skills over the last `SCORED_ROWS`, and after how many rows the mean of the loop first has 80 % of the oracle's."""
    last = SCORED_ROWS // CHUNK_ROWS
    curves = {name: np.mean([run[name] for run in runs], axis=0) for name in ("closed_loop", "frozen", "oracle")}
    late = {name: float(curve[-last:].mean()) for name, curve in curves.items()}
    recovery = late["closed_loop"] / late["oracle"]
    enough = [at for at in range(len(curves["oracle"])) if curves["closed_loop"][at:].mean() >= GOAL * curves["oracle"][at:].mean()]
    return {
        "skill_at_the_end": {name: round(value, 4) for name, value in late.items()},
        "recovery": round(recovery, 3),
        "recovered_after_rows": enough[0] * CHUNK_ROWS if enough else None,
        "first_swap_after_rows": sorted(run["swaps_after_rows"][0] for run in runs if run["swaps_after_rows"]),
        "is_reached": recovery >= GOAL and late["frozen"] < 0,
    }


def draw(runs: list[dict[str, Any]]) -> str:
    """Return the plot: mean and range of the middle half over the seeds."""
    names = {"closed_loop": "closed loop", "frozen": "frozen champion", "oracle": "trained on the new regime"}
    series = []
    for (name, title), colour in zip(names.items(), COLOURS, strict=False):
        table = np.array([run[name] for run in runs])
        x = [(at + 0.5) * CHUNK_ROWS for at in range(table.shape[1])]
        bars = [(float(low), float(high)) for low, high in np.quantile(table, (0.25, 0.75), axis=0).T]
        series.append(Series(name=title, x=x, y=table.mean(axis=0).tolist(), bars=bars, colour=colour))
    inline = line_chart(Axes(x=f"rows after the signal flipped ({len(runs)} seeds)", y="skill, 2 AUC - 1"), series)
    return inline.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) if "xmlns" not in inline else inline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path, help="write every seed's curve and decisions here")
    parser.add_argument("--add", type=Path, nargs="*", default=[], help="count the seeds of these --json files too")
    parser.add_argument(
        "--keep", type=Path, help="a new state directory for the registry of the (one) seed, to look at with main.py models"
    )
    parser.add_argument("--quick", action="store_true", help="one short seed: does it still run?")
    options = parser.parse_args()
    plan = Plan(after_rows=5_000, retrain_rows=4_000) if options.quick else Plan()
    seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
    runs: list[dict[str, Any]] = [run for path in options.add for run in json.loads(path.read_text())]
    for seed in seeds:
        runs.append(one_seed(seed, plan, options.keep))
        if options.out:
            options.out.write_text(draw(runs))
        if options.json:
            options.json.write_text(json.dumps(runs))
    took_s = sum(run["took_s"] for run in runs)
    print(json.dumps({"benchmark": "regime_flip", "seeds": len(runs), **summary(runs), "took_s": took_s}))


if __name__ == "__main__":
    main()
