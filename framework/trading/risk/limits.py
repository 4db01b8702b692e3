"""The limits in force: those of the configuration, tightened at run time, never loosened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

import msgspec

from framework.config import RiskLimits, ScopeLimits, Settings
from framework.errors import ConfigError
from framework.logs import foreign

Number = int | float | Decimal
DEFAULT: Final = "strategies"
ACCOUNT: Final = "account"
_NEVER_TIGHTENED: Final = frozenset(
    {"prevent_self_trade", "session_ends_hour_utc", "day_starts_hour_utc", "margin_share", "answer_timeout_s", "cash"}
)
_HIGHER_IS_TIGHTER: Final = frozenset({"duplicate_window_s", "flat_before_session_end_s"})


class Scope(NamedTuple):
    """Whose orders count together, and under which limits; 0 is no limit. None: all strategies, all instruments.

    `counted_as` is the name under which rates are counted.
    """

    name: str
    strategy_id: str | None
    instrument_id: str | None
    limits: Mapping[str, Number]
    counted_as: str = ""

    def get(self, key: str) -> Number:
        """Return one limit, 0 for none."""
        return self.limits.get(key, 0)


Binding = Mapping[str, tuple[tuple[Scope, Number], ...]]
"""By limit: the scopes of an order in which it is set, the narrowest first, and its value. A limit that is set nowhere is not there."""


class Tightening(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, made tighter. `scope` is `strategies` (each of them), `strategy:NAME`, `instrument:ID` or `account`."""

    scope: str
    key: str
    value: str


class LimitBook:
    """Limits by scope. `scopes` returns those that an order has to hold: its strategy's, its instrument's, the account's."""

    def __init__(self, config: RiskLimits) -> None:
        self.config = config
        self._tables: dict[str, dict[str, Number]] = {
            DEFAULT: _numbers(config),
            ACCOUNT: _numbers(config.account),
            **{f"strategy:{name}": _numbers(limits) for name, limits in config.strategies.items()},
            **{f"instrument:{name}": _numbers(limits) for name, limits in config.instruments.items()},
        }
        self._scopes: dict[tuple[str, str], tuple[tuple[Scope, ...], Binding]] = {}

    def get(self, key: str) -> Number:
        """Return a limit that is the same for everybody (a collar, an age, a window)."""
        return self._tables[DEFAULT][key]

    def scopes(self, strategy_id: str, instrument_id: str) -> tuple[Scope, ...]:
        """Return the scopes of an order, the narrowest first."""
        return self.bound(strategy_id, instrument_id)[0]

    def bound(self, strategy_id: str, instrument_id: str) -> tuple[tuple[Scope, ...], Binding]:
        """Return the scopes of an order, and which limits are set in them: worked out once, until one is tightened."""
        key = (strategy_id, instrument_id)
        found = self._scopes.get(key)
        if found is None:
            scopes = self._scopes_of(strategy_id, instrument_id)
            found = scopes, _binding(scopes)
            if len(self._scopes) < 10_000:  # a table of what was asked for; names come from outside
                self._scopes[key] = found
        return found

    def _scopes_of(self, strategy_id: str, instrument_id: str) -> tuple[Scope, ...]:
        instrument = f"instrument:{instrument_id}"
        return (
            Scope("strategy", strategy_id, None, self._of_strategy(strategy_id), f"strategy:{strategy_id}"),
            Scope("instrument", None, instrument_id, self._tables.get(instrument, {}), instrument),
            Scope("account", None, None, self._tables[ACCOUNT], "account:"),
        )

    def tighten(self, change: Tightening) -> Number:
        """Make a limit tighter and return the value before (0: none). Raises `ConfigError` for anything that is not tighter."""
        scope, key = change.scope, change.key
        table = self._table(scope)
        allowed = set(
            self._tables[DEFAULT] if scope == DEFAULT else self._tables[ACCOUNT] if scope == ACCOUNT else ScopeLimits.model_fields
        )
        if key not in allowed - _NEVER_TIGHTENED:
            raise ConfigError(f"limits: found {foreign(key, 60)}; allowed in {scope}: {', '.join(sorted(allowed - _NEVER_TIGHTENED))}")
        before = table.get(key, 0)
        value = _read(change.value, before, key)
        if not _is_tighter(key, value, before):
            at_most = "above" if key in _HIGHER_IS_TIGHTER else "below"
            now = f"{at_most} {before}" if before else "above 0"
            raise ConfigError(f"limits: found {key} {foreign(change.value, 40)}; allowed {now} (a limit is loosened by a restart only)")
        table[key] = value
        self._scopes.clear()
        return before

    def table(self) -> Iterator[tuple[str, str, Number]]:
        """Yield every limit in force: scope, key, value."""
        for scope, limits in self._tables.items():
            yield from ((scope, key, value) for key, value in limits.items())

    def _table(self, scope: str) -> dict[str, Number]:
        kind, _, name = scope.partition(":")
        if scope in (DEFAULT, ACCOUNT) or (kind in ("strategy", "instrument") and 0 < len(name) <= 100):
            return self._tables.setdefault(scope, {})
        raise ConfigError(f"limits: found the scope {foreign(scope, 80)}; allowed strategies, strategy:NAME, instrument:ID, account")

    def _of_strategy(self, strategy_id: str) -> dict[str, Number]:
        """Return the limits of each strategy, or this one's own where they are tighter."""
        limits = dict(self._tables[DEFAULT])
        for key, value in self._tables.get(f"strategy:{strategy_id}", {}).items():
            limits[key] = min(value, limits.get(key, 0) or value) if value else limits.get(key, 0)
        return limits


def _binding(scopes: tuple[Scope, ...]) -> Binding:
    found: dict[str, tuple[tuple[Scope, Number], ...]] = {}
    for scope in scopes:
        for key, most in scope.limits.items():
            if most:  # NaN too: it lets nothing pass
                found[key] = (*found.get(key, ()), (scope, most))
    return found


def limits_digest(config: RiskLimits) -> str:
    """Return the SHA-256 of limits as they were configured; what becomes of a quarantined strategy is none."""
    return hashlib.sha256(config.model_dump_json(exclude={"on_quarantine"}).encode()).hexdigest()


def _numbers(settings: Settings) -> dict[str, Number]:
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, int | float | Decimal) and not isinstance(value, bool)}


def _read(text: str, like: Number, key: str) -> Number:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 < value < 10**12):
        raise ConfigError(f"limits: found {key} {foreign(text, 40)}; allowed a number above 0")
    if isinstance(like, int) and not isinstance(ScopeLimits.model_fields.get(key, None) and getattr(ScopeLimits(), key), Decimal):
        if value != value.to_integral_value():
            raise ConfigError(f"limits: found {key} {foreign(text, 40)}; allowed a whole number")
        return int(value)
    return float(value) if isinstance(like, float) else value


def _is_tighter(key: str, value: Number, before: Number) -> bool:
    if key in _HIGHER_IS_TIGHTER:
        return value > before
    return not before or value < before
