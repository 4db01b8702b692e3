"""A line between the trading process and the ML process that fails by seed, under strategies that ask all the time.

    python -m tests.faults proxy --strikes 200 --table docs/faults.md
    python -m tests.faults proxy --strikes 7 --seed 17 --only bytes        # one line again

One proxy carries bytes (delayed, cut, refused, swallowed while both ends stay open, not read, spoiled, trickling), the other whole messages
(lost, delayed, repeated, reordered, spoiled, with wrong frames, with the answer before in front). A fault lasts for a while, then the line
is sound and answers have to come again before the next. Every request has one outcome, no answer is used late or for another book, and
the market's messages reach every strategy meanwhile: as many are handled as were published.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.faults.askers import Lane
from tests.faults.ml_kills import BACK_WITHIN_S, directory
from tests.faults.nursery import Nursery, argv
from tests.faults.proxies import BytesProxy, MessagesProxy, Proxy, Running
from tests.faults.tables import markdown, parser_of, show

KINDS: Final[dict[str, Callable[[int], Proxy]]] = {"bytes": BytesProxy, "messages": MessagesProxy}
SHORTEST_S, LONGEST_S = 0.05, 0.6


@dataclass
class Found:
    """What came of one line."""

    strikes: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    market: int = 0
    restarts: int = 0
    violations: list[str] = field(default_factory=list)


async def run_line(lane: Lane, proxy: Proxy, strikes: int, seed: int, found: Found) -> None:
    """Let so many faults strike one line."""
    rng = random.Random(f"proxy-{seed}")
    lane.through = lambda endpoint: _through(proxy, endpoint)
    market = asyncio.create_task(lane.show_market())
    await lane.start()
    wrong: list[str] = []
    for number in range(strikes):
        proxy.fault = proxy.faults[(seed + number) % len(proxy.faults)]
        found.strikes += 1
        await asyncio.sleep(rng.uniform(SHORTEST_S, LONGEST_S))
        fault, proxy.fault = proxy.fault, ""
        if not await lane.until_answered(BACK_WITHIN_S):
            wrong.append(f"{fault}: no answer within {BACK_WITHIN_S:g} s after it")
            break
    stats = lane.client.stats()
    market.cancel()
    wrong += await lane.stop()
    found.requests += len(lane.record.asked)
    found.outcomes += lane.record.outcomes
    found.struck += proxy.struck
    found.dropped += Counter({name: int(stats[name]) for name in ("late", "duplicate", "unknown", "bad_frames")})
    found.market += lane.shown
    found.restarts += lane.child.restarts
    found.violations += [f"{type(proxy).__name__}, seed {seed}: {text}" for text in wrong]


def _through(proxy: Proxy, endpoint: str) -> str:
    proxy.target = endpoint
    return proxy.endpoint


async def _run(command: tuple[str, ...], strikes: int, seed: int, only: tuple[str, ...]) -> dict[str, Found]:
    found = {name: Found() for name in only}
    with directory() as path:
        lanes = {name: Lane(number, command, path) for number, name in enumerate(only)}
        with ExitStack() as stack:
            proxies = {name: stack.enter_context(Running(partial(KINDS[name], seed))) for name in only}
            await asyncio.gather(*(run_line(lanes[name], proxies[name], strikes, seed, found[name]) for name in only))
    return found


def run(strikes: int, seed: int, only: tuple[str, ...] = tuple(KINDS)) -> dict[str, Found]:
    """Let so many faults strike each line, both at once."""
    with directory() as path, Nursery(path / "nursery.sock"):
        return asyncio.run(_run(argv(path / "nursery.sock"), strikes, seed, only))


HEAD: Final = ("line of", "faults", "struck", "requests", "how they ended", "dropped and counted", "market messages handled", "violations")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)


def main(arguments: list[str]) -> int:
    """Strike from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--strikes", type=int, default=70, help="faults a line")
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    found = run(options.strikes, options.seed, tuple(options.only))
    for name, text in ((name, text) for name, one in found.items() for text in one.violations):
        replay = f"python -m tests.faults proxy --strikes {options.strikes} --seed {options.seed} --only {name}"
        print(f"{text}\nreplay: {replay}", file=sys.stderr)
    rows = [
        (name, one.strikes, _counts(one.struck), one.requests, _counts(one.outcomes), _counts(one.dropped), one.market, len(one.violations))
        for name, one in found.items()
    ]
    show(options, "proxy", markdown(HEAD, rows))
    return 1 if any(one.violations for one in found.values()) else 0
