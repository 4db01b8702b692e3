"""Continuous series: the bars of one contract after another, joined where the market moved on to the next one.

`ES.c.0.CME` is the series of the contracts ESH15.CME, ESM15.CME, ... in the catalogue. A roll happens at the first bar of a
UTC day on which the next contract traded more than the present one the day before, and at the latest where the present one ends. At
each roll the session closes and opens, so that no window and no label crosses it. Adjusted (`difference`), earlier prices are
shifted by the sum of the later rolls' jumps: the close of the new contract minus that of the old one at the last bar that both have, or
the first open of the new one minus the last close of the old one where they share none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

import msgspec
import numpy as np

from framework.errors import ConfigError
from framework.market.catalogue.index import Catalogue, Entry
from framework.market.formats.recording import RecordingSource
from framework.messages import Bar, MarketEvent, SessionChanged
from framework.model import NS_PER_S, Instrument
from framework.window import Int64Array

MONTHS: Final = "FGHJKMNQUVXZ"
_NAME: Final = re.compile(r"(?P<root>[A-Z0-9]{1,3})\.(?P<kind>[ca])\.0\.(?P<venue>[A-Za-z0-9]+)")
_DAY_NS: Final = 86_400 * NS_PER_S
_CENTURY: Final = 50

Adjustment = Literal["none", "difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollRule:
    """Which contracts are joined: `ES.c.0.CME` as they traded, `ES.a.0.CME` adjusted by differences."""

    root: str
    venue: str
    adjustment: Adjustment = "none"
    interval_s: float | None = None

    @classmethod
    def named(cls, name: str, interval_s: float | None = None) -> Self:
        """Return the rule that `name` stands for. Raises `ConfigError`."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ConfigError(f"{name}: is no continuous series; allowed are ROOT.c.0.VENUE and, adjusted, ROOT.a.0.VENUE")
        adjustment: Adjustment = "difference" if found["kind"] == "a" else "none"
        return cls(root=found["root"], venue=found["venue"], adjustment=adjustment, interval_s=interval_s)

    @property
    def instrument_id(self) -> str:
        """Return the name of the series."""
        return f"{self.root}.{'a' if self.adjustment == 'difference' else 'c'}.0.{self.venue}"


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """From one contract to the next at `ts`, with the jump in ticks."""

    before: str
    after: str
    ts: int
    jump_ticks: int


def is_continuous(name: str) -> bool:
    """Return whether `name` is one of a series."""
    return _NAME.fullmatch(name) is not None


class ContinuousSource:
    """A series as a source of bars. Opening reads the bars of every contract once, one contract at a time."""

    def __init__(self, catalogue: Catalogue, rule: RollRule) -> None:
        self.path = catalogue.root / rule.instrument_id
        self.read_share = 0.0
        self.next_sequence = 0
        self.holds = "bars"
        self._contracts = _contracts(catalogue, rule)
        first = RecordingSource(self._contracts[0][1][0]).instruments[0]
        self._instrument = msgspec.structs.replace(first, instrument_id=rule.instrument_id)
        self.instruments: tuple[Instrument, ...] = (self._instrument,)
        self.rolls = _rolls(self._contracts)
        self._is_adjusted = rule.adjustment == "difference"
        bars = [_edges(paths) for _, paths in self._contracts]
        self.start_ns, self.end_ns = bars[0][0], bars[-1][1]

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the bars of the series, and the session's end and beginning at each roll."""
        self.next_sequence = first_sequence
        shift = sum(roll.jump_ticks for roll in self.rolls) if self._is_adjusted else 0
        begin = 0
        for number, (_, paths) in enumerate(self._contracts):
            roll = self.rolls[number] if number < len(self.rolls) else None
            for bar in _bars(paths):
                if begin < bar.ts_event and (roll is None or bar.ts_event <= roll.ts):
                    yield _shifted(bar, self._instrument.instrument_id, shift)
            if roll is not None:
                yield from self._joint(roll)
                begin = roll.ts
                shift -= roll.jump_ticks if self._is_adjusted else 0
            self.read_share = (number + 1) / len(self._contracts)

    def _joint(self, roll: Roll) -> Iterator[SessionChanged]:
        name, reason = self._instrument.instrument_id, f"roll {roll.before} to {roll.after}"
        for is_open in (False, True):
            yield SessionChanged(instrument_id=name, ts_event=roll.ts, is_open=is_open, reason=reason)


def _contracts(catalogue: Catalogue, rule: RollRule) -> list[tuple[str, list[Path]]]:
    pattern = re.compile(rf"{re.escape(rule.root)}([{MONTHS}])(\d{{1,2}})\.{re.escape(rule.venue)}")
    entries = [one for one in catalogue.read().entries.values() if one.bars and pattern.fullmatch(one.instrument_id)]
    kinds = sorted({entry.kind for entry in entries})
    wanted = f"bars-{rule.interval_s:g}s" if rule.interval_s is not None else kinds[0] if len(kinds) == 1 else ""
    if wanted not in kinds:
        found = ", ".join(kinds) or "none of any contract"
        raise ConfigError(f"{rule.instrument_id}: no one kind of bars in the catalogue to join: found {found}; say which with --interval")
    by_contract: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == wanted:
            by_contract.setdefault(entry.instrument_id, []).append(entry)
    ordered = sorted(by_contract.values(), key=lambda group: _expiry_order(group, pattern))
    return [(one[0].instrument_id, [catalogue.path_of(entry) for entry in sorted(one, key=lambda e: e.start_ns)]) for one in ordered]


def _expiry_order(group: Sequence[Entry], pattern: re.Pattern[str]) -> tuple[int, int]:
    found = pattern.fullmatch(group[0].instrument_id)
    assert found is not None  # the entries were chosen by it
    # One digit of a year is told by when the contract traded.
    decade = int(group[0].session) // 10 * 10
    year = int(found[2]) if len(found[2]) == 2 else decade + int(found[2])
    year += 0 if len(found[2]) == 1 else 1900 if year >= _CENTURY else 2000
    return (year if len(found[2]) == 2 or year >= int(group[0].session) else year + 10), MONTHS.index(found[1])


def _bars(paths: Sequence[Path]) -> Iterator[Bar]:
    for path in paths:
        for event in RecordingSource(path).events(0):
            if isinstance(event, Bar):
                yield event


def _edges(paths: Sequence[Path]) -> tuple[int, int]:
    return RecordingSource(paths[0]).start_ns, RecordingSource(paths[-1]).end_ns


class _Columns(NamedTuple):
    """The bars of a contract: when each ended, ns, its open and close, and its volume."""

    ts_event: Int64Array
    open_ticks: Int64Array
    close_ticks: Int64Array
    volume: Int64Array

    def after(self, ts: int) -> _Columns:
        """Return the bars that ended after a time."""
        begin = int(np.searchsorted(self.ts_event, ts, side="right"))
        return _Columns(*(column[begin:] for column in self))

    def until(self, ts: int) -> _Columns:
        """Return the bars that ended at a time or before."""
        end = int(np.searchsorted(self.ts_event, ts, side="right"))
        return _Columns(*(column[:end] for column in self))


def _columns(paths: Sequence[Path]) -> _Columns:
    batches = [rows.batch for path in paths for rows in RecordingSource(path).rows(0)]
    return _Columns(*(np.concatenate([batch.column(name).to_numpy() for batch in batches]) for name in _Columns._fields))


def _rolls(contracts: list[tuple[str, list[Path]]]) -> list[Roll]:
    rolls: list[Roll] = []
    begin, before = 0, ""
    old: _Columns | None = None
    for name, paths in contracts:
        new = _columns(paths)
        if old is not None:
            old_end, new_begin = int(old.ts_event[-1]), int(new.ts_event[0])
            ts = min(old_end if new_begin >= old_end else _overtaken_ns(old, new, begin), old_end)
            rolls.append(Roll(before=before, after=name, ts=ts, jump_ticks=_jump(old, new, ts)))
            begin = ts
        before, old = name, new
    return rolls


def _overtaken_ns(old: _Columns, new: _Columns, begin: int) -> int:
    """Return the end of the first UTC day on which the new contract traded more than the old one; far in the future if on none."""
    volumes = []
    for bars in (old.after(begin), new.after(begin)):
        days, places = np.unique((bars.ts_event - 1) // _DAY_NS, return_inverse=True)
        totals = np.bincount(places, weights=bars.volume.astype(np.float64), minlength=len(days))
        volumes.append(dict(zip(days.tolist(), totals.tolist(), strict=True)))
    overtaken = sorted(day for day in volumes[1] if volumes[1][day] > volumes[0].get(day, 0) > 0)
    return (overtaken[0] + 1) * _DAY_NS if overtaken else 2**62


def _jump(old: _Columns, new: _Columns, ts: int) -> int:
    """Return by how much the new contract is above the old one: in the last bar up to `ts` that both have, or from close to open."""
    known = old.until(ts)
    shared, in_old, in_new = np.intersect1d(known.ts_event, new.ts_event, assume_unique=True, return_indices=True)
    if len(shared):
        return int(new.close_ticks[in_new[-1]] - known.close_ticks[in_old[-1]])
    later = new.after(ts)
    return int(later.open_ticks[0] - known.close_ticks[-1]) if len(later.ts_event) and len(known.ts_event) else 0


def _shifted(bar: Bar, instrument_id: str, ticks: int) -> Bar:
    return Bar(
        instrument_id=instrument_id,
        ts_event=bar.ts_event,
        interval_s=bar.interval_s,
        open_ticks=bar.open_ticks + ticks,
        high_ticks=bar.high_ticks + ticks,
        low_ticks=bar.low_ticks + ticks,
        close_ticks=bar.close_ticks + ticks,
        volume=bar.volume,
        buy_volume=bar.buy_volume,
        sell_volume=bar.sell_volume,
    )
