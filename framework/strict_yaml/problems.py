"""What is wrong with a file: one line per problem, all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from framework.errors import ConfigError
from framework.logs import foreign

MAX_SHOWN: Final = 20
MAX_KEPT: Final = 200

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One complaint. `line` and `column` count from 1; 0 where the file as a whole is meant."""

    source: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        where = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.source}{where}: {self.text}"


class ConfigFileError(ConfigError):
    """A file that cannot be used. `str()` has one line per problem, in the order of the file, at most 20."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"{self.problems[0].source}: and more problems")
        super().__init__("\n".join(lines))


def key_name(path: KeyPath) -> str:
    """Return a path as a person writes it: `ml_service.client.port`, `levels[2]`."""
    name = ""
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f"{'.' if name else ''}{foreign(part, 60)}"
    return name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name[:60], sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
