"""Types of plain scalars, from their source text: YAML 1.2's core rules, less what YAML 1.1 reads differently.

Source: YAML 1.2.2, section 10.3.2 (core schema); PyYAML's resolver for what 1.1 makes of the same text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

MAX_NUMBER_LENGTH: Final = 40

_CONSTANTS: Final[dict[str, bool | None]] = (
    dict.fromkeys(("true", "True", "TRUE"), True)
    | dict.fromkeys(("false", "False", "FALSE"), False)
    | dict.fromkeys(("null", "Null", "NULL", "~", ""))
)
_SWITCHES: Final = frozenset({"yes", "no", "on", "off"})
"""Booleans in YAML 1.1. As values they are texts, so a key that wants true or false refuses them; as keys they are refused."""
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SUSPICIOUS: Final = frozenset("+-.0123456789<=")
_TRAPS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), allowed)
    for pattern, allowed in (
        (r"[-+]?\.(inf|nan)", "a finite number"),
        (r"[-+]?0[0-9_]+(\.[0-9_]*)?(e[-+]?[0-9]+)?", "a number without leading zeros (or quotes around a text)"),
        (r"[-+]?0[xob][0-9a-f_]+", "a decimal number (or quotes around a text)"),
        (r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9_]*)?", "a plain number, in the unit of the key (or quotes around a text)"),
        (r"[-+]?[0-9.]*[0-9]_[0-9_.]*(e[-+]?[0-9]+)?", "digits without underscores (or quotes around a text)"),
        (r"<<|=", "a text in quotes"),
    )
)


class SourceFloat(float):
    """A float that remembers how it was written, so that an exact field gets exactly that."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> SourceFloat:
        """Read `text` as a float."""
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[SourceFloat], tuple[str]]:
        return SourceFloat, (self._text,)


Scalar = bool | int | SourceFloat | str | None


@dataclass(frozen=True, slots=True)
class Trap:
    """Text that two readers of YAML understand in two ways, or that is no usable number."""

    found: str
    allowed: str


def read_plain(text: str) -> Scalar | Trap:
    """Return the value of an unquoted scalar."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _SUSPICIOUS:
        return text
    for pattern, allowed in _TRAPS:
        if pattern.fullmatch(text):
            return Trap(text, allowed)
    if _FLOAT.fullmatch(text):
        return _read_number(text)
    return text


def is_plain_key(text: str) -> bool:
    """Return whether an unquoted key is a name to every reader of YAML (`on` and `no` are switches to most)."""
    return isinstance(read_plain(text), str) and text.lower() not in _SWITCHES


def _read_number(text: str) -> Scalar | Trap:
    if len(text) > MAX_NUMBER_LENGTH:
        return Trap(f"a number of {len(text)} characters", f"at most {MAX_NUMBER_LENGTH}")
    if _INTEGER.fullmatch(text):
        return int(text)
    number = SourceFloat(text)
    return number if math.isfinite(number) else Trap(text, "a finite number")
