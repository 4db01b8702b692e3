"""The ML process killed again and again under strategies that ask all the time: every request has one outcome, none is used late.

    python -m tests.faults ml-kills --kills 1000 --table docs/faults.md
    python -m tests.faults ml-kills --kills 50 --seed 17                   # one lane again

Links, client, transport, analyzers and supervision are the real ones. The process is the stub service (the real rim and service, a
model that computes nothing), forked in milliseconds; `--real N` kills the real service with a trained model N times as well. At a
moment drawn by seed it is killed (SIGKILL), stopped (SIGSTOP, so that it seems to hang and is found out by its heartbeat), or killed
while it starts. Then it has to come back and answer before the next one falls. Four lanes run at once, each with three strategies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from framework.kernel.child_process import ChildPolicy
from framework.operations.ml_link import service_argv
from ml_actor.registry import Registry
from tests.faults.askers import POLICY, Lane
from tests.faults.nursery import Nursery, argv
from tests.faults.tables import markdown, parser_of, show
from tests.ml_actor.conftest import market_rows, small_job, train_in_memory

LANES: Final = 4
LONGEST_LIFE_S: Final = 0.15
BACK_WITHIN_S: Final = 30.0
REAL: Final = ChildPolicy(heartbeat_interval_s=0.25, heartbeat_misses=8, max_restarts=1_000_000, backoff_s=0.01, backoff_s_max=0.05)
WAYS: Final = ("killed", "killed", "killed", "killed", "killed", "killed", "killed", "killed while it starts", "stopped")


@dataclass
class Found:
    """What came of the kills of one kind of process."""

    kills: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    late_answers: int = 0
    overshoot_s: float = 0.0
    recoveries_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


async def run_lane(command: Sequence[str], number: int, kills: int, seed: int, state_dir: Path, policy: ChildPolicy, found: Found) -> None:
    """Kill one lane's process so many times."""
    rng = random.Random(f"kills-{seed}-{number}")
    lane = Lane(number, command, state_dir, policy=policy)
    await lane.start()
    wrong: list[str] = []
    loop = asyncio.get_running_loop()
    for _ in range(kills):
        way = rng.choice(WAYS)
        await asyncio.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
        began_s = loop.time()
        await strike(lane, way, rng)
        found.kills[way] += 1
        if not await lane.until_answered(BACK_WITHIN_S):
            wrong.append(f"{way}: no answer within {BACK_WITHIN_S:g} s")
            break
        found.recoveries_s.append(loop.time() - began_s)
    late = int(lane.client.stats()["late"])
    wrong += await lane.stop()
    found.requests += len(lane.record.asked)
    found.outcomes += lane.record.outcomes
    found.late_answers += late
    found.overshoot_s = max(found.overshoot_s, lane.record.worst_overshoot_s)
    found.violations += [f"lane {number}, seed {seed}: {text}" for text in wrong]


async def strike(lane: Lane, way: str, rng: random.Random) -> None:
    """Bring the process down, in one way, and wait until that was noticed."""
    deaths, pid = lane.child.deaths + lane.child.hangs, lane.pid
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP if way == "stopped" else signal.SIGKILL)
    while lane.child.deaths + lane.child.hangs == deaths:
        await asyncio.sleep(0.002)
    if way == "killed while it starts":
        await asyncio.sleep(rng.uniform(0.0, 0.1))
        if lane.child.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(lane.child.pid, signal.SIGKILL)


async def _run(command: Sequence[str], kills: int, seed: int, state_dir: Path, lanes: int, policy: ChildPolicy) -> Found:
    found = Found()
    shares = [kills // lanes + (number < kills % lanes) for number in range(lanes)]
    await asyncio.gather(
        *(run_lane(command, number, share, seed, state_dir, policy, found) for number, share in enumerate(shares) if share)
    )
    return found


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Give a directory that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_stub(kills: int, seed: int, lanes: int = LANES) -> Found:
    """Kill the stub service."""
    with directory() as path, Nursery(path / "nursery.sock"):
        return asyncio.run(_run(argv(path / "nursery.sock"), kills, seed, path, lanes, POLICY))


def run_real(kills: int, seed: int) -> Found:
    """Kill the real service, which serves a version trained here."""
    with directory() as path:
        job = small_job(path / "models")
        Registry(path / "models").promote(train_in_memory(market_rows(4_000, seed=11), job).version)
        return asyncio.run(_run(service_argv(None, path), kills, seed, path, 1, REAL))


HEAD: Final = (
    "process",
    "kills",
    "requests",
    "how they ended",
    "answers thrown away as late",
    "worst overshoot, ms",
    "back after, ms",
    "violations",
)


def row(name: str, found: Found) -> tuple[object, ...]:
    """Return a row of the table."""
    back = sorted(one * 1e3 for one in found.recoveries_s) or [0.0]
    return (
        name,
        ", ".join(f"{count:,} {way}" for way, count in sorted(found.kills.items())),
        found.requests,
        ", ".join(f"{count:,} {how}" for how, count in sorted(found.outcomes.items())),
        found.late_answers,
        f"{found.overshoot_s * 1e3:.1f}",
        f"p50 {statistics.median(back):.0f}, max {back[-1]:.0f}",
        len(found.violations),
    )


def main(arguments: list[str]) -> int:
    """Kill from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of the stub service")
    parser.add_argument("--real", type=int, default=0, help="kills of the real service")
    parser.add_argument("--lanes", type=int, default=LANES)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    found: dict[str, Found] = {}
    if options.kills:
        found["stub service"] = run_stub(options.kills, options.seed, options.lanes)
    if options.real:
        found["real service"] = run_real(options.real, options.seed)
    for text in (text for one in found.values() for text in one.violations):
        replay = f"python -m tests.faults ml-kills --kills {options.kills} --real {options.real} --seed {options.seed}"
        print(f"{text}\nreplay: {replay}", file=sys.stderr)
    show(options, "ml-kills", markdown(HEAD, [row(name, one) for name, one in found.items()]))
    return 1 if any(one.violations for one in found.values()) else 0
