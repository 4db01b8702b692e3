"""Checks for leaks from the trading side: strategies here, features, labels and models in a child process of `ml_actor`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.config import MainConfig
from framework.leak_job import Finding, LeakJob, Verdict
from framework.operations.deployments import read_deployment
from framework.progress import Progress
from framework.remote_files import fetched
from framework.research.leaks.rows import read_market, write_rows
from framework.research.leaks.strategies import Market, check_strategy, simulated
from framework.research.learning_child import run_job
from framework.strict_yaml import read_text

SCRATCH_PREFIX: Final = "tidebook-leaks-"
SIGNAL: Final = 0.6
Found = Callable[[Finding], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakOptions:
    """What is checked: the names of `job`, and a strategy's file. `data` are recordings; empty means generated markets."""

    job: LeakJob
    main: MainConfig = field(default_factory=MainConfig)
    strategy: Path | None = None
    data: tuple[Path, ...] = ()


def check_leaks(options: LeakOptions, on_progress: Progress, on_finding: Found) -> list[Finding]:
    """Run every check that is asked for, and return all findings; `on_finding` hears each as it comes. Blocks.

    Raises `ConfigError` for a name that nothing has or code that cannot run, `IntegrityError` for damaged input.
    """
    found: list[Finding] = []

    def take(finding: Finding) -> None:
        found.append(finding)
        on_finding(finding)

    market = _market(options.data) if options.data else None
    job = options.job
    if job.features or job.label or job.model:
        _check_learning(options, market, on_progress, take)
    if options.strategy is not None:
        for finding in _strategy(options, options.strategy, market, on_progress):
            take(finding)
    return found


def _market(paths: Sequence[Path]) -> Market:
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as scratch:
        return read_market([fetched(path, Path(scratch), number) for number, path in enumerate(paths)])


def has_leak(found: list[Finding]) -> bool:
    """Return whether anything leaks, or does not find what is there."""
    return any(one.verdict in (Verdict.LEAK, Verdict.FAILED) for one in found)


def _check_learning(options: LeakOptions, market: Market | None, on_progress: Progress, take: Found) -> None:
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as scratch:
        job = options.job
        if market is not None:
            directory = Path(scratch) / "rows"
            write_rows(market, directory, lambda share: on_progress("reading recordings", share))
            job = msgspec.structs.replace(job, dataset_dir=str(directory))

        def on_line(line: dict[str, Any]) -> None:
            if "finding" in line:
                take(msgspec.convert(line["finding"], Finding))
            elif "stage" in line:
                on_progress(str(line["stage"]), float(line.get("fraction", 0.0)))

        run_job("ml_actor.leaks", job, Path(scratch), on_line)


def _strategy(options: LeakOptions, path: Path, market: Market | None, on_progress: Progress) -> Iterator[Finding]:
    deployment = read_deployment(read_text(path), str(path))
    on_progress(f"strategy {deployment.file.name}", 0.0)
    if market is None:
        market = simulated(deployment.file.instrument_id, seed=options.job.seed, strength=SIGNAL)
    yield from check_strategy(deployment, options.main, market, seed=options.job.seed, seeds=options.job.seeds)
