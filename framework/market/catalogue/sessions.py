"""Which session an instant belongs to: the trading day of its venue."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from framework.model import NS_PER_S


class Calendar(NamedTuple):
    """Where a venue is, at which local hour its trading day begins, and whether it rests at weekends."""

    timezone: str
    begins_hour: int
    has_weekends: bool = True


CALENDARS: Final = {
    "GLBX": Calendar("America/Chicago", 17),
    "CME": Calendar("America/Chicago", 17),
    "SHFE": Calendar("Asia/Shanghai", 20),
    "INE": Calendar("Asia/Shanghai", 20),
    "SGX": Calendar("Asia/Singapore", 16),
    "NASDAQ": Calendar("America/New_York", 0),
}
"""A trading day that begins in the afternoon has the date of the day it ends on; a Friday evening belongs to Monday."""
EVERY_DAY: Final = Calendar("UTC", 0, has_weekends=False)
_NOON: Final = 12


class Sessions:
    """Name the sessions of one venue: `session_of(ts)` is the date of the trading day, `2023-12-26`."""

    def __init__(self, venue: str) -> None:
        self.calendar = CALENDARS.get(venue, EVERY_DAY)
        self._zone = ZoneInfo(self.calendar.timezone)
        self._begin_ns = self._end_ns = 0
        self._name = ""

    def session_of(self, ts: int) -> str:
        """Return the session of `ts`, ns UTC. Quick for an instant in the same session as the last one asked for."""
        if not self._begin_ns <= ts < self._end_ns:
            self._move_to(ts)
        return self._name

    def end_of(self, ts: int) -> int:
        """Return when the session of `ts` is over, ns UTC."""
        self.session_of(ts)
        return self._end_ns

    def _move_to(self, ts: int) -> None:
        hour = timedelta(hours=self.calendar.begins_hour)
        begin = (datetime.fromtimestamp(ts // NS_PER_S, self._zone).replace(tzinfo=None) - hour).date()
        self._begin_ns, self._end_ns = (self._instant(day) for day in (begin, begin + timedelta(days=1)))
        self._name = self._trading_day(begin).isoformat()

    def _instant(self, day: date) -> int:
        local = datetime.combine(day, datetime.min.time()) + timedelta(hours=self.calendar.begins_hour)
        return round(local.replace(tzinfo=self._zone).timestamp()) * NS_PER_S

    def _trading_day(self, begin: date) -> date:
        day = begin + timedelta(days=1) if self.calendar.begins_hour >= _NOON else begin
        while self.calendar.has_weekends and day.weekday() >= 5:
            day += timedelta(days=1)
        return day


def year_of(ts: int) -> str:
    """Return the calendar year of `ts`, UTC: how bars are kept."""
    return str(datetime.fromtimestamp((ts - 1) // NS_PER_S, ZoneInfo("UTC")).year)


def year_end_of(ts: int) -> int:
    """Return the first instant that belongs to the year after `ts` (bars are stamped with their end), ns UTC."""
    return round(datetime(int(year_of(ts)) + 1, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp()) * NS_PER_S + 1
