"""Decimal texts to whole ticks and lots, quickly: the same few thousand prices come again and again."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

MAX_KEPT: Final = 50_000
WAY_OUT: Final = "fetch the file again, or write the instrument's own units into instruments.yaml beside it"


class OffUnit(ValueError):
    """A text that is no number, or lies between two units; the message says which."""


class Units(dict[str, int]):
    """Look texts up as whole multiples of `unit`: `Units("tick size", Decimal("0.1"))["63944.30"] == 639443`.

    Remembers what it saw, at most 50,000 texts. Raises `OffUnit`.
    """

    def __init__(self, name: str, unit: Decimal) -> None:
        super().__init__()
        self._name = name
        self._unit = unit
        self._size = float(unit)

    def __missing__(self, text: str) -> int:
        if len(self) >= MAX_KEPT:
            self.clear()
        self[text] = count = self._count(text)
        return count

    def _count(self, text: str) -> int:
        try:
            count = float(text) / self._size
            whole = round(count)
        except (ValueError, OverflowError) as exc:
            raise OffUnit(f"{text[:40]!r} is no number") from exc
        # What binary fractions leave of an exact multiple is far below a thousandth of a unit.
        if abs(count - whole) > 1e-3:
            raise OffUnit(f"{text[:40]} is not a multiple of the {self._name} {self._unit}")
        return whole
