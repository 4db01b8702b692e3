"""What the journal is told of a run: which code, settings, limits and strategies, on which market."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from framework.config import Settings
from framework.errors import StorageError
from framework.messages import Message
from framework.model import Instrument
from framework.operations.options import StartOptions
from framework.trading.journal import Journal
from framework.trading.records import RunEnded, RunStarted
from framework.trading.risk import limits_digest

HOME: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = ("framework", "strategies", "ml_actor")


def run_started(options: StartOptions, journal: Journal, instruments: Iterable[Instrument], now_ns: int) -> RunStarted:
    """Return the record of a run that begins."""
    config = options.config
    return RunStarted(
        ts_event=now_ns,
        run=int(journal.get_meta("runs") or 0),
        version=code_digest(),
        python=platform.python_version(),
        market=options.market,
        speed=options.speed,
        seed=options.seed,
        config_digest=digest(config),
        limits_digest=limits_digest(config.risk),
        strategy_digests={name: one.digest for name, one in journal.deployments().items()},
        instruments=tuple(instruments),
        settings=config.model_dump_json(),
        record_dir="" if options.record_dir is None else str(options.record_dir.resolve()),
    )


def run_ended(journal: Journal, reason: str, now_ns: int) -> RunEnded:
    """Return the record of a run that ends in order."""
    return RunEnded(ts_event=now_ns, run=int(journal.get_meta("runs") or 0), reason=reason)


def write(journal: Journal, message: Message) -> None:
    """Journal a record durably. A disk that fails has closed the gate already; the run goes on without the record."""
    try:
        journal.append(type(message).__name__, message, durable=True)
    except StorageError:
        return


def digest(settings: Settings) -> str:
    """Return the SHA-256 of settings as they are in force."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()


def code_digest() -> str:
    """Return the SHA-256 of all source files of ours, in order of their names."""
    found = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (HOME / room).rglob("*.py")):
        found.update(str(path.relative_to(HOME)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
