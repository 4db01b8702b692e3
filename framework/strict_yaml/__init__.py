"""Configuration files: strict YAML in, checked settings out, every complaint with file, line and column.

PyYAML's own loading keeps the last of two equal keys, turns `12:30:45` into 45045, `NO` into false and `0755` into 493,
and takes NaN. Here only its event parser is used; scalars are typed from their source text (`scalars`), positions are
kept (`document`), the settings models say what is allowed (`validation`). Reads whole files, so never on the event loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from framework.config import MainConfig, Settings, StrategyFile
from framework.strict_yaml.document import Document, parse
from framework.strict_yaml.problems import ConfigFileError, Problem
from framework.strict_yaml.reading import MAX_BYTES, read_text
from framework.strict_yaml.scalars import SourceFloat
from framework.strict_yaml.validation import literal_secrets, validate

__all__ = [
    "MAX_BYTES",
    "ConfigFileError",
    "Document",
    "Problem",
    "SourceFloat",
    "load",
    "load_main_config",
    "load_strategy_file",
    "load_strategy_text",
    "parse",
    "read_text",
    "validate",
]

Model = TypeVar("Model", bound=Settings)


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`. Raises `ConfigFileError` that holds every problem of the file."""
    return validate(parse(read_text(path), str(path)), model)


def load_main_config(path: Path) -> MainConfig:
    """Read `config/main.yaml`. Raises `ConfigFileError`."""
    return load(path, MainConfig)


def load_strategy_file(path: Path) -> StrategyFile:
    """Read a file of `config/strategies/`. Raises `ConfigFileError`; `parameters` is checked when the class is known."""
    return load_strategy_text(read_text(path), str(path))


def load_strategy_text(text: str, source: str) -> StrategyFile:
    """Read the text of a strategy's file; `source` is its name in complaints. Raises `ConfigFileError`."""
    document = parse(text, source)
    return validate(document, StrategyFile, literal_secrets(document))
