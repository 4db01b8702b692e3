"""A hundred thousand broken frames a decoder: a value or a typed error, and memory in proportion. And what once ended otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.decoders import Decoder, decoders
from tests.faults.fuzz import FOUND, Found, _case, replay, run
from tests.faults.mutator import Mutator


@pytest.mark.parametrize("name", decoders())
def test_a_broken_frame_ends_in_a_value_or_in_a_typed_error(name: str) -> None:
    found = run(name, 100_000, seed=7)

    assert found.violations == []
    assert found.cases == 100_000
    # Both ways are taken: a mutator that breaks everything, or nothing, looks at one door only.
    assert 500 < found.outcomes["read"] < 50_000


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.hex")), ids=lambda path: path.stem)
def test_a_frame_that_once_broke_a_decoder_is_refused(path: Path) -> None:
    replay(path)


def test_the_same_seed_breaks_frames_in_the_same_way() -> None:
    one, other, third = (Mutator((b'{"a":[1,2,3]}',), seed) for seed in (1, 1, 2))

    cases = [one.next() for _ in range(300)]

    assert cases == [other.next() for _ in range(300)]
    assert cases != [third.next() for _ in range(300)]


def test_the_fuzzer_sees_a_decoder_that_raises_or_takes_too_much() -> None:
    found = Found("planted")

    _case(Decoder((), lambda frame: 1 // len(frame)), b"", found, is_measured=False)
    _case(Decoder((), lambda frame: bytes(1 << 20)), b"x", found, is_measured=True)

    assert [violation.split(":")[1].split()[0] for violation in found.violations] == ["ZeroDivisionError", "took"]
