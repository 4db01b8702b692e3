"""Facts of instruments that the files themselves do not tell: tick size, money per point, lot."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Final

from framework.errors import ConfigError
from framework.model import Instrument

CME: Final = {
    "ES": ("0.25", "50"), "MES": ("0.25", "5"), "NQ": ("0.25", "20"), "MNQ": ("0.25", "2"), "RTY": ("0.1", "50"), "M2K": ("0.1", "5"),
    "YM": ("1", "5"), "MYM": ("1", "0.5"), "CL": ("0.01", "1000"), "MCL": ("0.01", "100"), "NG": ("0.001", "10000"),
    "GC": ("0.1", "100"), "MGC": ("0.1", "10"), "SI": ("0.005", "5000"), "HG": ("0.0005", "25000"), "6E": ("0.00005", "125000"),
    "6B": ("0.0001", "62500"), "6A": ("0.00005", "100000"), "6C": ("0.00005", "100000"), "ZB": ("0.03125", "1000"),
    "ZN": ("0.015625", "1000"), "ZF": ("0.0078125", "1000"), "ZC": ("0.25", "50"), "ZS": ("0.25", "50"), "ZW": ("0.25", "50"),
}  # fmt: skip
"""Tick size and money per point of the outright futures that are known, by root symbol (USD)."""

CRYPTO: Final = {
    "BTCUSDT": ("0.1", "0.001", "USDT"), "ETHUSDT": ("0.01", "0.001", "USDT"), "SOLUSDT": ("0.01", "0.01", "USDT"),
    "XRPUSDT": ("0.0001", "0.1", "USDT"), "BNBUSDT": ("0.01", "0.01", "USDT"), "DOGEUSDT": ("0.00001", "1", "USDT"),
    "BTCUSDC": ("0.1", "0.001", "USDC"), "ETHUSDC": ("0.01", "0.001", "USDC"),
    "BTCUSD_PERP": ("0.1", "1", "USD"), "ETHUSD_PERP": ("0.01", "1", "USD"),
}  # fmt: skip
"""Tick size, smallest quantity and currency of perpetual futures.

Coin-margined ones count in contracts of a fixed worth in dollars; their profit in coin is not linear in the price, so replays show it
as points times contracts.
"""

_FUTURE: Final = re.compile(r"^([A-Z0-9]{1,3}?)([FGHJKMNQUVXZ]\d{1,2}|\.[a-z]\.\d+|)$")


def cme_future(symbol: str, venue: str, path: Path) -> Instrument:
    """Return the future `symbol` (`ESH4`; `ES.c.0` and `ES` for a continuous series). Raises `ConfigError` if its root is not known."""
    match = _FUTURE.match(symbol)
    facts = CME.get(match.group(1)) if match else None
    if facts is None:
        raise ConfigError(f"{path}: unknown symbol {symbol[:40]!r}, known are futures of {', '.join(CME)}")
    tick_size, multiplier = map(Decimal, facts)
    return Instrument(instrument_id=f"{symbol}.{venue}", tick_size=tick_size, multiplier=multiplier)


def perpetual(symbol: str, venue: str, path: Path) -> Instrument:
    """Return the perpetual future `symbol` (`BTCUSDT`, `BTCUSD_PERP`). Raises `ConfigError` if it is not known."""
    facts = CRYPTO.get(symbol)
    if facts is None:
        raise ConfigError(f"{path}: unknown symbol {symbol[:40]!r}, known perpetuals are {', '.join(CRYPTO)}")
    tick_size, lot_size, currency = facts
    return Instrument(
        instrument_id=f"{symbol}.{venue}",
        tick_size=Decimal(tick_size),
        lot_size=Decimal(lot_size),
        currency=currency,
        session_gap_s=60.0,
    )
