"""Definitions of instruments: what a file does not tell comes from `instruments.yaml` beside it, or from the contracts that are known."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from framework.config import InstrumentId, Money, Positive, Settings
from framework.errors import ConfigError
from framework.market.formats.contracts import CME, CRYPTO, cme_future, perpetual
from framework.model import Instrument
from framework.strict_yaml import load

FILE_NAME: Final = "instruments.yaml"

SecurityId = Annotated[int, Field(ge=1, le=2**32 - 1, description="the number that a packet feed names the instrument by")]


class InstrumentFacts(Settings):
    """One instrument, as a person writes it."""

    instrument_id: InstrumentId
    tick_size: Money
    multiplier: Money = Decimal(1)
    lot_size: Money = Decimal(1)
    currency: str = "USD"
    session_gap_s: Positive = 60.0
    security_id: SecurityId | None = None

    def instrument(self) -> Instrument:
        """Return it as everybody else knows it."""
        return Instrument(
            instrument_id=self.instrument_id,
            tick_size=self.tick_size,
            multiplier=self.multiplier,
            lot_size=self.lot_size,
            currency=self.currency,
            session_gap_s=self.session_gap_s,
        )


class InstrumentsFile(Settings):
    """`instruments.yaml`."""

    instruments: list[InstrumentFacts]


def find_instrument(symbol: str, venue: str, path: Path) -> Instrument:
    """Return the facts of `symbol` at `venue` for the recording `path`. Raises `ConfigError` that says where to write them."""
    own = written_beside(path).get(f"{symbol}.{venue}")
    if own is not None:
        return own
    try:
        return perpetual(symbol, venue, path) if symbol in CRYPTO else cme_future(symbol, venue, path)
    except ConfigError as exc:
        raise ConfigError(
            f"{path}: unknown symbol {symbol[:40]!r}: nobody told its tick size; write {symbol[:40]}.{venue} into "
            f"{path.parent / FILE_NAME}, "
            f"name its definition file too, or use one of the known: futures of {', '.join(CME)}; perpetuals {', '.join(CRYPTO)}"
        ) from exc


def written_beside(path: Path) -> dict[str, Instrument]:
    """Return what `instruments.yaml` in the folder of `path` says, by id. Raises `ConfigError` for a bad one."""
    return {one.instrument_id: one.instrument() for one in _facts_beside(path)}


def securities_beside(path: Path) -> dict[int, Instrument]:
    """Return what `instruments.yaml` in the folder of `path` says, by security id. Raises `ConfigError` for a bad one."""
    return {one.security_id: one.instrument() for one in _facts_beside(path) if one.security_id is not None}


def _facts_beside(path: Path) -> list[InstrumentFacts]:
    file = path.parent / FILE_NAME
    if not file.is_file():
        return []
    facts = load(file, InstrumentsFile).instruments
    for one in facts:
        if one.tick_size <= 0 or one.lot_size <= 0 or one.multiplier <= 0:
            raise ConfigError(f"{file}: {one.instrument_id}: tick_size, lot_size and multiplier must be above 0")
    return facts
