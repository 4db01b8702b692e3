"""Many backtests: every combination of a grid, here or on a cluster, resumed where it was killed, each one counted as a try.

A point is one combination of parameters, seed, latency and fees. Its result is a line in `<out>.jsonl` as soon as it is there; a sweep that
is started again with the same grid runs only what is missing. At the end the lines become one Parquet file.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from framework.backtest.engine import Plan, Source, prepare
from framework.backtest.latency import read_latency
from framework.backtest.planning import check_way
from framework.backtest.research import executed, measured
from framework.dataset.parts import replace_file
from framework.errors import ConfigError, IntegrityError, StorageError, TidebookError
from framework.multiplicity import expected_best
from framework.operations.deployments import Deployment
from framework.parallel import run_all
from framework.progress import Progress, unseen

MAX_POINTS: Final = 10_000
FIGURES: Final = ("net", "gross", "fees", "trades", "fills", "win_rate", "max_drawdown", "exposure", "slippage_ticks")
Point = dict[str, Any]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What one point found, or why it could not run."""

    point: Point
    digest: str
    figures: dict[str, float | int | None] = {}
    sharpe: float = 0.0
    error: str = ""


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """What to vary: parameters of the strategy by name; seeds, latencies and fee factors (1: as configured) beside them."""

    parameters: dict[str, tuple[Any, ...]] = {}
    seeds: tuple[int, ...] = ()
    latencies: tuple[str, ...] = ()
    fee_factors: tuple[float, ...] = ()

    def points(self) -> list[Point]:
        """Return every combination. Raises `ConfigError` for none, or for more than 10,000."""
        axes: dict[str, Sequence[Any]] = {f"parameters.{name}": values for name, values in self.parameters.items()}
        axes |= {"seed": self.seeds, "latency": self.latencies, "fee_factor": self.fee_factors}
        axes = {name: values for name, values in axes.items() if values}
        count = 1
        for values in axes.values():
            count *= len(values)
        if not axes or count > MAX_POINTS:
            raise ConfigError(f"a sweep needs something to vary and at most {MAX_POINTS:,} points, this one has {count if axes else 0:,}")
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def read_axis(text: str, deployment: Deployment) -> tuple[str, tuple[Any, ...]]:
    """Read `name=value,value,...` for a parameter of the strategy. Raises `ConfigError` that names what is allowed."""
    name, separator, values = text.partition("=")
    fields = type(deployment.parameters).model_fields
    if not separator or name not in fields:
        raise ConfigError(f"--vary: found {text}; allowed NAME=VALUE,VALUE,... with a parameter: {', '.join(sorted(fields))}")
    return name, tuple(_value(value) for value in values.split(","))


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def planned(plan: Plan, point: Point) -> Plan:
    """Return the plan of one point. Raises `ConfigError` for a value that the strategy's parameters refuse."""
    changes = {name.removeprefix("parameters."): value for name, value in point.items() if name.startswith("parameters.")}
    kind = type(plan.deployment.parameters)
    try:
        parameters = kind.model_validate(plan.deployment.parameters.model_dump() | changes)
    except ValueError as exc:
        words = " ".join(str(exc).split())
        raise ConfigError(f"--vary {changes}: {words[:300]}") from exc
    file = plan.deployment.file.model_copy(update={"parameters": plan.deployment.file.parameters | changes})
    settings = plan.settings
    if "fee_factor" in point:
        factor, paper = point["fee_factor"], settings.paper
        fees = {name: type(getattr(paper, name))(str(float(getattr(paper, name)) * factor)) for name in ("maker_fee", "taker_fee")}
        settings = settings.model_copy(update={"paper": paper.model_copy(update=fees)})
    return replace(
        plan,
        deployment=replace(plan.deployment, parameters=parameters, file=file),
        settings=settings,
        seed=point.get("seed", plan.seed),
        latency=read_latency(point["latency"]) if "latency" in point else plan.latency,
        keep=None,
    )


def run_point(plan: Plan, source: Source, point: Point, digest: str) -> Done:
    """Run one point; what it cannot run is an error in the result, so that the others go on."""
    try:
        found = measured(executed(planned(plan, point), source, lambda _stage, _share: None), trials=1).facts
    except TidebookError as exc:
        return Done(point=point, digest=digest, error=str(exc))
    return Done(point=point, digest=digest, figures={name: found[name] for name in FIGURES}, sharpe=found["deflated_sharpe"]["sharpe"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How the points of a sweep are run: told about progress, each counted before any runs, here or on a cluster."""

    on_progress: Progress = unseen
    on_try: Callable[[], None] = lambda: None
    backend: str = "loky"
    address: str | None = None
    workers: int = 1


def sweep(plan: Plan, grid: Grid, out: Path, runner: Runner) -> pl.DataFrame:
    """Run every point that `out` does not have yet, and write all of them to `out` (Parquet), best Sharpe ratio first.

    Blocks. Raises `ConfigError`, `StorageError`.
    """
    table = _table(results(plan, grid, out, runner))
    write_table(table, out)
    return table


def results(plan: Plan, grid: Grid, out: Path, runner: Runner) -> list[Done]:
    """Return what each point of the grid found, in order; those that `<out>.jsonl` has are not run again. Blocks; raises as `sweep`."""
    points = grid.points()
    check_way(plan)
    for point in points:
        planned(plan, point)  # a value that is refused is said before anything runs
    lines = _Lines(out.with_suffix(".jsonl"))
    digests = {_digest(plan, point): point for point in points}
    done = {one.digest: one for one in lines.read() if one.digest in digests}
    missing = {digest: point for digest, point in digests.items() if digest not in done}
    if missing:
        for _ in missing:
            runner.on_try()
        source = prepare(plan, runner.on_progress)
        calls = [(run_point, (plan, source, point, digest)) for digest, point in missing.items()]
        where = {"backend": runner.backend, "address": runner.address, "workers": runner.workers}
        for number, found in enumerate(run_all(calls, **where), 1):  # type: ignore[arg-type]
            lines.append(found)
            done[found.digest] = found
            runner.on_progress(f"{len(done)} of {len(points)} points", number / len(missing))
    return [done[digest] for digest in digests]


def _digest(plan: Plan, point: Point) -> str:
    """Return what tells a point of this sweep from every other: strategy, recordings, predictions, settings and itself."""
    what = (plan.deployment.digest, [str(path) for path in plan.data], plan.ml, plan.settings.model_dump_json(), plan.from_ns, plan.to_ns)
    latency = plan.latency.name if plan.latency is not None else ""
    latency += " lean" if plan.is_lean else " compiled" if plan.is_compiled else ""
    return hashlib.sha256(msgspec.json.encode([*what, plan.seed, latency, sorted(point.items())])).hexdigest()[:24]


class _Lines:
    """Results as they come, one JSON line each; a last line that a kill cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[Done]:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        if content and not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            self._path.write_bytes(content)
        for number, line in enumerate(content.splitlines(), 1):
            try:
                yield msgspec.json.decode(line, type=Done)
            except msgspec.DecodeError as exc:
                raise IntegrityError(f"{self._path}:{number}: is no result of a sweep ({exc}); move the file away to begin anew") from exc

    def append(self, done: Done) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, msgspec.json.encode(done) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"{self._path}: a result cannot be written ({exc.strerror})") from exc


def _table(results: Sequence[Done]) -> pl.DataFrame:
    """Return one line a point, best Sharpe ratio first; `beats_luck`: it is above what the best of so many shows without any skill."""
    ratios = [one.sharpe for one in results if not one.error]
    luck = expected_best(float(np.var(ratios, ddof=1)), len(ratios)) if len(ratios) > 1 else 0.0
    lines: list[Mapping[str, Any]] = [
        {**one.point, **dict.fromkeys(FIGURES), **one.figures, "sharpe": None if one.error else one.sharpe, "error": one.error}
        for one in results
    ]
    table = pl.DataFrame(lines, infer_schema_length=None).with_columns(
        (pl.col("sharpe") > luck).alias("beats_luck"), pl.lit(len(results)).alias("tries")
    )
    return table.sort("sharpe", descending=True, nulls_last=True, maintain_order=True)


def write_table(table: pl.DataFrame, out: Path) -> None:
    """Write `table` to `out` whole. Raises `StorageError`."""
    whole = io.BytesIO()
    table.write_parquet(whole)
    replace_file(out, whole.getvalue())
