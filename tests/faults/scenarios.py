"""Named mixes of faults. What is drawn is drawn from the seed, so that a seed is a scenario of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from tests.faults.line import Mix


def _calm(_: random.Random) -> Mix:
    return Mix()


def _lost(rng: random.Random) -> Mix:
    return Mix(lose_request=rng.choice((0.02, 0.2, 0.6)), lose_report=rng.choice((0.02, 0.2, 0.5)), say_lost=rng.random())


def _reports(rng: random.Random) -> Mix:
    return Mix(repeat_report=rng.choice((0.05, 0.5)), delay_report=rng.choice((0.05, 0.5)), longest_delay_s=rng.choice((0.1, 2.0, 60.0)))


def _disconnect(rng: random.Random) -> Mix:
    return Mix(disconnect=rng.choice((0.002, 0.02, 0.1)), say_lost=rng.random())


def _crash(rng: random.Random) -> Mix:
    return Mix(crash=rng.choice((0.005, 0.03, 0.15)), lose_report=rng.choice((0.0, 0.2)), delay_report=rng.choice((0.0, 0.3)))


def _disk(rng: random.Random) -> Mix:
    return Mix(bad_disk=rng.choice((0.005, 0.03)), lose_report=rng.choice((0.0, 0.1)))


def _halt(rng: random.Random) -> Mix:
    return Mix(halt=rng.choice((0.01, 0.05)), lose_request=rng.choice((0.0, 0.2)), disconnect=rng.choice((0.0, 0.02)))


def _market(rng: random.Random) -> Mix:
    return Mix(bad_book=rng.choice((0.02, 0.1)), garbage=0.2, tighten=0.005)


def _margin(rng: random.Random) -> Mix:
    return Mix(cash=rng.choice((3_000, 10_000)), crash=rng.choice((0.0, 0.01)), lose_report=rng.choice((0.0, 0.1)))


def _quarantine(rng: random.Random) -> Mix:
    return Mix(
        quarantine=rng.choice((0.02, 0.1)),
        on_quarantine=rng.choice(("keep_exits", "keep_exits", "cancel_all", "flatten")),
        crash=rng.choice((0.0, 0.01)),
        lose_report=rng.choice((0.0, 0.1)),
        halt=rng.choice((0.0, 0.01)),
    )


def _everything(rng: random.Random) -> Mix:
    """Each fault is in the mix of a quarter of all seeds; how often it strikes differs too."""

    def some(*shares: float) -> float:
        return rng.choice(shares) if rng.random() < 0.25 else 0.0

    return Mix(
        lose_request=some(0.02, 0.3),
        say_lost=rng.random(),
        lose_report=some(0.02, 0.3),
        repeat_report=some(0.1, 0.5),
        delay_report=some(0.1, 0.5),
        longest_delay_s=rng.choice((0.1, 2.0, 30.0)),
        disconnect=some(0.005, 0.05),
        crash=some(0.005, 0.05),
        halt=some(0.005, 0.03),
        bad_disk=some(0.005, 0.02),
        bad_book=some(0.02, 0.1),
        garbage=some(0.05, 0.3),
        tighten=some(0.005),
    )


SCENARIOS: Final[dict[str, Callable[[random.Random], Mix]]] = {
    "calm": _calm,
    "lost": _lost,
    "reports": _reports,
    "disconnect": _disconnect,
    "crash": _crash,
    "disk": _disk,
    "halt": _halt,
    "market": _market,
    "margin": _margin,
    "quarantine": _quarantine,
    "everything": _everything,
}


def mix_of(name: str, seed: int) -> Mix:
    """Return the mix of a scenario and a seed."""
    return SCENARIOS[name](random.Random(f"{name}-{seed}"))
