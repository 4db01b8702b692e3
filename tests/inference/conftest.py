"""Fakes that stand where other rooms will: a DOM view with rows that a test appends, and a bus that remembers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from framework.messages import BookSnapshot, Message
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window

START_NS = 1_700_000_000_000_000_000


def make_book(ts_event: int, sequence: int, *, mid_ticks: int = 1_000, bid_size: int = 5, ask_size: int = 5) -> BookSnapshot:
    """Return a book of one level, two ticks wide, around `mid_ticks`."""
    return BookSnapshot(
        instrument_id="TIDE.SIM",
        ts_event=ts_event,
        ts_recv=ts_event,
        sequence=sequence,
        bid_ticks=(mid_ticks - 1,),
        bid_sizes=(bid_size,),
        ask_ticks=(mid_ticks + 1,),
        ask_sizes=(ask_size,),
    )


class FakeDom:
    """A `DomView` of books that the test appends."""

    def __init__(self, max_rows: int = 100) -> None:
        self.books: list[BookSnapshot] = []
        self.segment_start = 0
        self.max_rows = max_rows

    def append(self, book: BookSnapshot) -> None:
        self.books.append(book)

    @property
    def row_count(self) -> int:
        return min(self.max_rows, len(self.books) - self.segment_start)

    @property
    def total_rows(self) -> int:
        return len(self.books)

    def window(self, rows: int) -> Window:
        kept = self.books[self.segment_start :][-min(rows, self.max_rows) :]
        bars = np.zeros((0, len(BAR_COLUMNS)))
        return Window(instrument_id="TIDE.SIM", tick_size=0.25, has_trades=True, rows=rows_of(kept), bars=bars)

    def rows_since(self, total: int) -> Rows:
        return rows_of(self.books[max(total, len(self.books) - self.max_rows) :])

    def mid_ticks(self) -> float | None:
        if not self.books or not (self.books[-1].bid_ticks and self.books[-1].ask_ticks):
            return None
        return (self.books[-1].bid_ticks[0] + self.books[-1].ask_ticks[0]) / 2


def rows_of(books: list[BookSnapshot]) -> Rows:
    count = len(books)
    return Rows(
        ts_event=np.array([book.ts_event for book in books], np.int64),
        sequence=np.array([book.sequence for book in books], np.int64),
        segment=np.zeros(count, np.int64),
        bid_ticks=np.zeros((count, LEVELS), np.int32),
        bid_sizes=np.zeros((count, LEVELS), np.float32),
        ask_ticks=np.zeros((count, LEVELS), np.int32),
        ask_sizes=np.zeros((count, LEVELS), np.float32),
        flow=np.zeros((count, len(FLOW_COLUMNS)), np.float32),
    )


class MemoryBus:
    """Where actors put their messages, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Message]] = []
        self.published: list[Message] = []

    def tell(self, actor_name: str, message: Message) -> None:
        self.told.append((actor_name, message))

    def publish(self, message: Message) -> None:
        self.published.append(message)

    def subscribe(self, actor_name: str, message_type: type[Message], instrument_id: str | None = None) -> None:
        pass


@pytest.fixture
def start_ns() -> int:
    return START_NS


@pytest.fixture
def book() -> Callable[..., BookSnapshot]:
    return make_book


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
def dom() -> FakeDom:
    """A DOM view with 50 books, 100 ms apart, the last one at the start time."""
    view = FakeDom()
    for n in range(50):
        view.append(make_book(START_NS - (49 - n) * 100_000_000, n + 1))
    return view
