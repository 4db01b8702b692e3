"""What the gate looked at when it let an order out, worked out again from what it recorded and the limits of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pydantic

from framework.config import MainConfig, RiskLimits
from framework.errors import ConfigError
from framework.messages import Seen, SubmitOrder
from framework.model import NS_PER_S, OrderType
from framework.trading.journal_view import JournalView
from framework.trading.records import LimitTightened, RunStarted
from framework.trading.risk import LimitBook, Tightening, limits_digest

Facts = dict[str, Any]


class Number(NamedTuple):
    """One thing that was within its limit; 0 and None are no limit."""

    code: str
    what: str
    value: float
    limit: float | None


def gate_numbers(journal: JournalView, seq: int, order: SubmitOrder, run: RunStarted | None) -> Facts:
    """Return the quotes and lots that the gate saw, and each number with the limit that it was within (None: not known, 0: no limit)."""
    seen = order.seen
    if seen is None:
        return {"seen": None, "numbers": []}
    limits = _limits(journal, seq, run)
    names = ("bid_ticks", "bid_lots", "ask_ticks", "ask_lots", "book_ns", "book_sequence", "position_lots", "open_lots")
    facts = {name: getattr(seen, name) for name in names}
    return {
        "seen": facts,
        "has_limits": limits is not None,
        "numbers": [number._asdict() for number in _numbers(order, seen, limits)],
    }


def _numbers(order: SubmitOrder, seen: Seen, limits: LimitBook | None) -> Iterator[Number]:
    yield Number("MAX_ORDER_QUANTITY", "lots of the order", order.quantity, _tightest(limits, order, "max_order_quantity"))
    worst = seen.position_lots + order.side.sign * (seen.open_lots + order.quantity)
    yield Number("MAX_POSITION", "position of the strategy if all of that side fills", worst, _tightest(limits, order, "max_position"))
    if seen.bid_ticks is not None and seen.ask_ticks is not None and order.limit_ticks is not None:
        mid = (seen.bid_ticks + seen.ask_ticks) / 2
        if order.order_type is not OrderType.MARKET:
            yield Number("PRICE_COLLAR", "ticks from the mid", abs(order.limit_ticks - mid), _one(limits, "price_collar_ticks"))
    if seen.book_ns:
        yield Number("BOOK", "age of the book, s", (order.ts_event - seen.book_ns) / NS_PER_S, _one(limits, "max_book_age_s"))
    if order.as_of_ns is not None:
        age_s = (order.ts_event - order.as_of_ns) / NS_PER_S
        yield Number("PREDICTION_AGE", "age of the prediction, s", age_s, _one(limits, "max_prediction_age_s"))


def _one(limits: LimitBook | None, key: str) -> float | None:
    return None if limits is None else float(limits.get(key))


def _tightest(limits: LimitBook | None, order: SubmitOrder, key: str) -> float | None:
    if limits is None:
        return None
    return float(min((limit for scope in limits.scopes(order.strategy_id, order.instrument_id) if (limit := scope.get(key))), default=0))


def _limits(journal: JournalView, seq: int, run: RunStarted | None) -> LimitBook | None:
    """Return the limits that were in force at a record; None where the run did not write its settings."""
    config = None if run is None else _risk(run.settings)
    if config is None:
        return None
    book = LimitBook(config)
    digest = limits_digest(config)
    # A tightened limit holds until the settings of the limits change.
    since = max((number for number, one in journal.until(RunStarted, seq) if one.limits_digest != digest), default=0)
    for number, change in journal.until(LimitTightened, seq):
        if number > since:
            try:
                book.tighten(Tightening(scope=change.scope, key=change.key, value=change.value))
            except ConfigError:  # a limit that this version does not know
                continue
    return book


def _risk(settings: str) -> RiskLimits | None:
    try:
        return MainConfig.model_validate_json(settings, strict=False).risk if settings else None
    except (pydantic.ValidationError, msgspec.DecodeError):
        return None
