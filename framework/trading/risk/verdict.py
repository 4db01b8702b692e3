"""What the gate answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from framework.messages import SubmitOrder

LARGEST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Approved:
    """The order may go. A market order goes as a limit at the collar's edge, so it never trades beyond it."""

    order: SubmitOrder


@dataclass(frozen=True, slots=True)
class Denied:
    """The order may not go: `code` names the check, `detail` its numbers."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code} {self.detail}".rstrip()


Verdict = Approved | Denied


def is_whole(number: object) -> bool:
    """Return whether this is an integer that the journal can hold and a float can show."""
    return isinstance(number, int) and not isinstance(number, bool) and abs(number) <= LARGEST


def text_of(number: object) -> str:
    """Return a number as text; one of thousands of digits, which Python refuses to print, must not make a denial raise."""
    return f"beyond {LARGEST}" if isinstance(number, int) and abs(number) > LARGEST else str(number)
