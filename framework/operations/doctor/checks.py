"""What a check is, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from framework.config import MainConfig
from framework.errors import TidebookError
from framework.strict_yaml import load_main_config

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check: `result` is ok, warn (it works, but) or fail; `fix` is the way out."""

    name: str
    result: str
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is looked at. `now_ns` is the wall time, ns UTC; `market` as for `start`."""

    config_path: Path | None
    state_dir: Path
    now_ns: int
    strategies_dir: Path = Path("config/strategies")
    market: tuple[str, ...] = ()


def settings_of(patient: Patient) -> MainConfig:
    """Return the configuration, or the defaults where the file is wrong (which is a check of its own)."""
    try:
        return MainConfig() if patient.config_path is None else load_main_config(patient.config_path)
    except TidebookError:
        return MainConfig()


def checked(name: str, look: Callable[[], str], fix: str) -> Check:
    """Return OK with what `look` says, or FAIL with what it raises."""
    try:
        return Check(name=name, result=OK, detail=look())
    except (TidebookError, OSError) as exc:
        return Check(name=name, result=FAIL, detail=str(exc), fix=fix)
