"""Break sound frames and records in every way, a hundred thousand times a decoder: a value or a typed error may come of it, nothing else.

    python -m tests.faults fuzz --cases 100000 --seed 1

A case that ends otherwise is printed as hex and becomes a fixture (`tests/faults/found/`). What a frame may cost is asked too: of
every fiftieth case the memory that the decoder took is measured, and it may not be more than `MOST_TIMES` its length and `SPARE` bytes.
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.decoders import Decoder, decoders
from tests.faults.mutator import Mutator
from tests.faults.tables import markdown, parser_of, show

FOUND: Final = Path(__file__).with_name("found")
MOST_TIMES: Final = 64
"""A byte of msgpack can be an object of Python, with its place in a list: 64 bytes."""
SPARE: Final = 1 << 18
MEASURED: Final = 50
"""Of how many cases one is measured."""


@dataclass
class Found:
    """What came of the cases of one decoder."""

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    most_bytes: int = 0
    slowest_ms: float = 0.0
    took_s: float = 0.0


def run(name: str, cases: int, seed: int) -> Found:
    """Break frames for one decoder."""
    decoder, found = decoders()[name], Found(name)
    mutator, begin_s = Mutator(decoder.sound, seed), time.perf_counter()
    for frame in decoder.sound:
        decoder.decode(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(cases):
            _case(decoder, mutator.next(), found, is_measured=number % MEASURED == 0)
    found.took_s = time.perf_counter() - begin_s
    return found


def _case(decoder: Decoder, frame: bytes, found: Found, *, is_measured: bool) -> None:
    found.cases += 1
    if is_measured:
        tracemalloc.start(1)
    begin_s = time.perf_counter()
    try:
        decoder.decode(frame)
        outcome = "read"
    except decoder.typed as exc:
        outcome = type(exc).__name__
    except Exception as exc:  # noqa: BLE001 - what else comes is what is looked for
        outcome = f"{type(exc).__name__}: {exc}"
        found.violations.append(f"{found.name}: {outcome[:200]}: {frame[:20_000].hex()}")
    found.outcomes[outcome] += 1
    found.slowest_ms = max(found.slowest_ms, (time.perf_counter() - begin_s) * 1e3)
    if is_measured:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found.most_bytes = max(found.most_bytes, taken)
        if taken > MOST_TIMES * len(frame) + SPARE:
            found.violations.append(f"{found.name}: took {taken} bytes for a frame of {len(frame)}: {frame[:20_000].hex()}")


def replay(path: Path) -> None:
    """Decode a frame that once ended otherwise: its file is `DECODER-what.hex`. Raises what the decoder raises, typed errors apart."""
    name = next(one for one in sorted(decoders(), key=len, reverse=True) if path.name.startswith(one))
    decoder = decoders()[name]
    try:
        decoder.decode(bytes.fromhex(path.read_text()))
    except decoder.typed:
        return


def main(arguments: list[str]) -> int:
    """Fuzz from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="a decoder")
    parser.add_argument("--only", nargs="*", default=list(decoders()), choices=list(decoders()))
    options = parser.parse_args(arguments)
    found = [run(name, options.cases, options.seed) for name in options.only]
    for line in (line for one in found for line in one.violations[:20]):
        print(line)
    head = ("decoder", "cases", "read", "refused", "largest memory of a case, KiB", "slowest case, ms", "violations")
    rows = [
        (
            f"`{one.name}`",
            one.cases,
            one.outcomes["read"],
            one.cases - one.outcomes["read"] - len(one.violations),
            one.most_bytes // 1_024,
            f"{one.slowest_ms:.1f}",
            len(one.violations),
        )
        for one in found
    ]
    show(options, "fuzz", markdown(head, rows))
    return 1 if any(one.violations for one in found) else 0
