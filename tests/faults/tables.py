"""What was run, as tables of a page: each command of the runner writes between marks of its own, and nobody else does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

END: Final = "<!-- end -->"


def begin_of(command: str) -> str:
    """Return the mark before the table of a command ("" for the scenarios in virtual time)."""
    return f"<!-- written by {' '.join(['python -m tests.faults', command]).strip()} -->"


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as a Markdown table; numbers are set to the right and get their commas."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    numeric = [all(row[place].replace(",", "").isdigit() for row in cells) for place in range(len(head))]
    lines = [head, ["---:" if one else "---" for one in numeric], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(path: Path, command: str, text: str) -> None:
    """Put a table between its marks. Raises `SystemExit` for a page without them."""
    page, begin = path.read_text(), begin_of(command)
    before, found, rest = page.partition(begin)
    if not found:
        raise SystemExit(f"{path} has no mark {begin}")
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}")


def show(options: argparse.Namespace, command: str, text: str) -> None:
    """Print a table, and write it if a page was named."""
    print(text)
    print("load", " ".join(f"{one:.1f}" for one in os.getloadavg()))
    if options.table is not None:
        write(options.table, command, text)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every command takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="the (first) seed")
    parser.add_argument("--table", type=Path, help="a Markdown page with the marks to write between")
    return parser
