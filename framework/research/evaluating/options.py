"""What `evaluate` is asked for, checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from framework.errors import ConfigError, StorageError
from framework.evaluation_job import BACKENDS, DEFAULT_MODEL, LABELS, MemberSettings
from framework.logs import foreign
from framework.window import LEVELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """What a taking fill costs: money per lot, or basis points of the price."""

    amount: Decimal
    is_basis_points: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """The options of `evaluate`: `train` and `test`, or `data` for a walk-forward, or `data` with `split`. `fee` None means the venue's."""

    train: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    split: float | None = None
    folds: int = 5
    horizons: tuple[int, ...]
    label: str = LABELS[0]
    model: str = DEFAULT_MODEL
    seed: int = 7
    levels: int = LEVELS
    fee: Fee | None = None
    default_fee: Fee = Fee(amount=Decimal(0))
    predictions: Path | None = None
    report: Path | None = None
    state_dir: Path
    backend: str = BACKENDS[0]
    address: str | None = None
    workers: int = 1
    settings: MemberSettings = field(default_factory=dict)
    command: str = ""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Return every recording that is named."""
        return (*self.train, *self.test, *self.data)


def check_paths(options: EvaluationOptions) -> None:
    """Refuse names that are no text, and output paths that cannot be written, are the same, or would overwrite a recording."""
    named = (*options.inputs, *filter(None, (options.predictions, options.report)))
    for text in map(str, named):
        if not text.isprintable():
            raise ConfigError(f"found the file name {foreign(text)}; allowed are printable characters")
    outputs = [("--predictions", options.predictions), ("--report", options.report)]
    taken = {path.resolve(): foreign(str(path)) for path in options.inputs}
    for option, path in outputs:
        if path is None:
            continue
        _check_writable(option, path)
        if path.resolve() in taken:
            raise ConfigError(f"{option}: found {foreign(str(path))}, which would be overwritten; allowed a file of its own")
        taken[path.resolve()] = option


def _check_writable(option: str, path: Path) -> None:
    name = foreign(str(path))
    if path.is_dir():
        raise ConfigError(f"{option}: found the directory {name}; allowed a file name")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option}: found {name}, which is no regular file; allowed a file name")
    if not path.parent.is_dir():
        raise ConfigError(f"{option}: found {name}, whose directory does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StorageError(f"{option}: {name} cannot be written: its directory is not writable for you; choose another")
