"""How long a prediction takes in market time: a constant, a distribution, or what was measured live. Drawn by seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np

from framework.errors import ConfigError
from framework.logs import foreign
from framework.model import NS_PER_MS

FORMS: Final = "milliseconds (5), lognormal:MEDIAN_MS,SIGMA, or the file of a profile that `latency record` wrote"
MAX_MS: Final = 60_000.0
_BLOCK: Final = 4_096


class Latency(Protocol):
    """Where latencies come from. `name` is how the user writes it."""

    @property
    def name(self) -> str:
        """Return how the user writes it."""

    def draw_ms(self, random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return `count` latencies, ms."""


class Constant(msgspec.Struct, frozen=True):
    """Always the same."""

    ms: float

    @property
    def name(self) -> str:
        """Return how the user writes it."""
        return f"{self.ms:g}"

    def draw_ms(self, random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return `count` times the constant."""
        del random
        return np.full(count, self.ms)


class Lognormal(msgspec.Struct, frozen=True):
    """exp(N(ln median, sigma)): round trips have a long tail to one side."""

    median_ms: float
    sigma: float

    @property
    def name(self) -> str:
        """Return how the user writes it."""
        return f"lognormal:{self.median_ms:g},{self.sigma:g}"

    def draw_ms(self, random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return `count` draws."""
        return np.minimum(random.lognormal(math.log(self.median_ms), self.sigma, count), MAX_MS)


class Profile(msgspec.Struct, frozen=True):
    """Measured round trips, drawn with replacement; `source` says from which run they are."""

    round_trips_ms: list[float]
    source: str = ""
    path: str = ""

    def quantiles_ms(self) -> dict[str, float]:
        """Return p50, p90, p99 and the largest, ms."""
        values = np.quantile(self.round_trips_ms, (0.5, 0.9, 0.99, 1.0))
        return dict(zip(("p50", "p90", "p99", "max"), (round(float(value), 3) for value in values), strict=True))

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path or "profile"

    def draw_ms(self, random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return `count` of the measured ones."""
        return random.choice(np.array(self.round_trips_ms), count)


def read_latency(text: str) -> Latency:
    """Read what the user wrote. Raises `ConfigError` that says what is allowed."""
    if text.startswith("lognormal:"):
        numbers = [_number(part) for part in text.removeprefix("lognormal:").split(",")]
        if (
            len(numbers) == 2
            and all(number is not None for number in numbers)
            and numbers[0]
            and numbers[1] is not None
            and numbers[1] <= 5
        ):
            return Lognormal(numbers[0], numbers[1])
    elif (number := _number(text)) is not None:
        return Constant(number)
    elif Path(text).is_file():
        return _read_profile(Path(text))
    raise ConfigError(f"--latency: found {foreign(text, 100)}; allowed {FORMS}")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= MAX_MS else None


def _read_profile(path: Path) -> Profile:
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError) as exc:
        raise ConfigError(f"--latency {path}: is no latency profile ({foreign(str(exc), 200)}); `latency record` writes one") from exc
    if not profile.round_trips_ms or not all(0 <= one <= MAX_MS for one in profile.round_trips_ms):
        raise ConfigError(f"--latency {path}: needs round trips from 0 to {MAX_MS:g} ms, at least one")
    return msgspec.structs.replace(profile, path=str(path))


def drawn_by(latency: Latency, seed: int) -> Callable[[], int]:
    """Return a function that draws one latency after the other, ns; the same seed gives the same ones."""
    random = np.random.default_rng(seed)
    drawn: list[int] = []

    def draw() -> int:
        if not drawn:
            drawn.extend(reversed(np.rint(latency.draw_ms(random, _BLOCK) * NS_PER_MS).astype(np.int64).tolist()))
        return drawn.pop()

    return draw
