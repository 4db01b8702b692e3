"""What `--market` may name. A module of its own: verbs that read no market do not load what reads recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from framework.errors import ConfigError
from framework.logs import foreign
from framework.market.catalogue.reading import is_known
from framework.operations.options import SIMULATED


def read_market(values: Sequence[str]) -> tuple[str, ...]:
    """Return `("simulated",)` or the files, of values that may be comma-separated. Raises `ConfigError`."""
    names = [name for value in values for name in ([value] if _exists(value) else value.split(","))]
    if SIMULATED in names and len(names) > 1:
        raise ConfigError("--market: found simulated together with files; allowed simulated alone, or files")
    for name in names:
        if name != SIMULATED:
            _check_recording(name)
    return tuple(names)


def _check_recording(name: str) -> None:
    if not _exists(name) and not is_known(name):
        raise ConfigError(f"--market: found no such file: {foreign(name)}; allowed simulated, or recordings that exist")


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
