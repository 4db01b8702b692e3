"""Options that several verbs share, and how their texts become values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from framework.config import MainConfig
from framework.errors import ConfigError
from framework.logs import foreign
from framework.operations.options import StartOptions, Summary
from framework.strict_yaml import load_main_config

DEFAULT_CONFIG: Final = Path("config/main.yaml")
DEFAULT_STATE_DIR: Final = Path(".tidebook")
MIN_SPEED: Final = 0.01
MAX_SPEED: Final = 10_000.0

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The settings; default config/main.yaml where it exists.")
]
StateDirOption = Annotated[Path, typer.Option("--state-dir", metavar="DIR", help="Where journal, models and training data are.")]
MarketOption = Annotated[
    list[str],
    typer.Option("--market", metavar="simulated|FILE...", help="The built-in simulated market, or recordings to replay together."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the door hands to the verbs."""

    run_framework: Callable[[StartOptions], Summary]
    is_debug: bool = False


def read_config(path: Path | None) -> tuple[MainConfig, Path | None]:
    """Return the settings and the file they come from: `path`, else config/main.yaml, else none (the defaults)."""
    if path is None and not DEFAULT_CONFIG.is_file():
        return MainConfig(), None
    path = path or DEFAULT_CONFIG
    return load_main_config(path), path


def read_speed(text: str) -> float | None:
    """Return a speed relative to real time; None for max. Raises `ConfigError`."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise ConfigError(f"--speed: found {foreign(text, 60)}; allowed max, or a number from {MIN_SPEED:g} to {MAX_SPEED:g}")
    return speed
