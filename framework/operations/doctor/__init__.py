"""`doctor`: what would keep Tidebook from starting, trading or learning here, each with the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rich.table import Table
from rich.text import Text

from framework.logs import foreign
from framework.operations.doctor.checks import FAIL, OK, WARN, Check, Patient
from framework.operations.doctor.files import config, dataset, journal, model, recordings, state_dir
from framework.operations.doctor.machine import clock, disk, libraries, port, python

__all__ = ["FAIL", "OK", "WARN", "Check", "Patient", "checks_table", "examine", "is_healthy"]

_STEPS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (
    python,
    libraries,
    clock,
    disk,
    config,
    state_dir,
    port,
    journal,
    dataset,
    model,
    recordings,
)


def examine(patient: Patient) -> tuple[Check, ...]:
    """Run every check, in the order in which they matter to a start. Changes nothing."""
    return tuple(check for step in _STEPS for check in step(patient))


def is_healthy(checks: tuple[Check, ...]) -> bool:
    """Return whether nothing failed."""
    return all(check.result != FAIL for check in checks)


def checks_table(checks: tuple[Check, ...]) -> Table:
    """Return the checks as a table for a terminal."""
    styles = {OK: "green", WARN: "yellow", FAIL: "red"}
    table = Table(title="Doctor", title_justify="left")
    for column in ("check", "result", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        found = Text(foreign(check.detail, 1_000))
        if check.fix:
            found.append(f"\nfix: {foreign(check.fix, 1_000)}", style="bold")
        table.add_row(check.name, Text(check.result, style=styles[check.result]), found)
    return table
