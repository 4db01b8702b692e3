"""What only the journal holds: never on the bus, but part of what state is rebuilt from."""

from __future__ import annotations

from decimal import Decimal

from framework.messages import Message
from framework.model import Instrument


class RunStarted(Message, frozen=True, kw_only=True, gc=False):
    """A run began: which code, settings and strategies, on which market. Digests are SHA-256 of what was loaded.

    `settings` are the main settings in force, as JSON; `record_dir` is where the market was recorded to, if it was.
    """

    ts_event: int
    run: int
    version: str
    python: str
    market: tuple[str, ...]
    speed: float | None
    seed: int
    config_digest: str
    limits_digest: str
    strategy_digests: dict[str, str]
    instruments: tuple[Instrument, ...]
    settings: str = ""
    record_dir: str = ""


class RunEnded(Message, frozen=True, kw_only=True, gc=False):
    """A run ended in order. A run without one was killed, which changes nothing but what this record says."""

    ts_event: int
    run: int
    reason: str


class OperatorCommanded(Message, frozen=True, kw_only=True, gc=False):
    """An operator's command was carried out; `body` is the command as JSON."""

    ts_event: int
    command: str
    body: str


class TimerFired(Message, frozen=True, kw_only=True, gc=False):
    """A timer of Execution's did something: `name` says which, `detail` what."""

    ts_event: int
    name: str
    detail: str = ""


class LimitTightened(Message, frozen=True, kw_only=True, gc=False):
    """A limit was made tighter. It holds until the settings of the limits themselves change."""

    ts_event: int
    scope: str
    key: str
    value: str


class RiskMarked(Message, frozen=True, kw_only=True, gc=False):
    """What the loss limits are measured from: equity at the beginning of the day and at its best, by `strategy<TAB>instrument`."""

    ts_event: int
    day: int
    day_start: dict[str, Decimal]
    peak: dict[str, Decimal]


class OrderAdopted(Message, frozen=True, kw_only=True, gc=False):
    """The venue has an order or a trade on our account that nobody here sent: it is kept, and counts against the limits."""

    ts_event: int
    client_order_id: str
    venue_order_id: str
    reason: str


class MarginCalled(Message, frozen=True, kw_only=True, gc=False):
    """A venue says that the account no longer covers the maintenance margin of what it holds, or (`is_over`) covers it again."""

    ts_event: int
    equity: Decimal
    maintenance: Decimal
    is_over: bool = False


class SnapshotTaken(Message, frozen=True, kw_only=True, gc=False):
    """The state that all records up to here add up to was written down; `digest` is the SHA-256 of those bytes."""

    ts_event: int
    seq: int
    digest: str
