"""A paper venue behind a socket: lines come and go, orders stay, and a kill line needs nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import unix_sockets
from framework.clock import EventClock
from framework.config import PaperConfig
from framework.errors import StartRefused, StorageError, WireError
from framework.messages import BookSnapshot, ExecutionReport, ReplaceOrder, ReportKind
from framework.model import NS_PER_S, Instrument, OrderType, Side, TimeInForce
from framework.venues.elsewhere.frames import MAX_FRAME, SOCKET_NAME, Look, Submit, Unpacker, from_venue, pack, to_venue
from framework.venues.elsewhere.host import Host
from framework.venues.elsewhere.kill_line import PaperKillLine
from framework.venues.elsewhere.venue import DOWN, VenueElsewhere
from framework.venues.port import RestingOrder
from tests.trading.conftest import NOW, book, submit

INSTRUMENT = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"))
Result = TypeVar("Result")


@dataclass
class Trader:
    """The line for orders, and what it heard."""

    venue: VenueElsewhere
    clock: EventClock = field(default_factory=lambda: EventClock(NOW))
    reports: list[ExecutionReport] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    async def begin(self, directory: Path, *, at: BookSnapshot | None = None) -> Trader:
        self.venue.on_lost = self.losses.append
        await self.venue.connect(directory)
        self.venue.start(self.clock, self.reports.append)
        self.venue.on_market(at or book())
        return self

    def kinds(self, name: str = "o1") -> list[ReportKind]:
        return [one.kind for one in self.reports if one.client_order_id == name]

    async def hears(self, kind: ReportKind, name: str = "o1") -> ExecutionReport:
        await until(lambda: kind in self.kinds(name))
        return next(one for one in self.reports if one.client_order_id == name and one.kind is kind)


def trader(**settings: Any) -> Trader:
    return Trader(VenueElsewhere(PaperConfig(own_process=True, **settings), (INSTRUMENT,), speed=1.0))


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def hosting(directory: Path) -> AsyncIterator[Host]:
    host = Host(directory)
    await host.start()
    try:
        yield host
    finally:
        host.stop()
        await asyncio.sleep(0)


async def blocking(call: Callable[..., Result], *arguments: Any) -> Result:
    return await asyncio.to_thread(call, *arguments)


async def test_orders_changes_and_cancels_go_over_the_line_and_their_reports_come_back(tmp_path: Path) -> None:
    async with hosting(tmp_path):
        one = await trader().begin(tmp_path)
        one.venue.submit(submit("o1", limit_ticks=95, quantity=3))
        accepted = await one.hears(ReportKind.ACCEPTED)
        one.venue.replace(ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=NOW, quantity=2, revision=1))
        replaced = await one.hears(ReportKind.REPLACED)
        one.venue.cancel("o1")
        await one.hears(ReportKind.CANCELED)
        one.venue.submit(submit("o2", limit_ticks=101, quantity=2))
        filled = await one.hears(ReportKind.FILLED, "o2")

    # Two milliseconds to the exchange and one back, in the market time that went on at the other end.
    assert accepted.ts_event >= NOW + 2_000_000
    assert (replaced.quantity, replaced.revision) == (2, 1)
    assert (filled.last_quantity, filled.last_ticks, filled.fee) == (2, 101, Decimal("1.70"))


async def test_orders_outlive_the_line_and_the_next_one_is_told_again_what_it_missed(tmp_path: Path) -> None:
    async with hosting(tmp_path) as host:
        one = await trader().begin(tmp_path)
        one.venue.submit(submit("o1", limit_ticks=95, quantity=3))
        one.venue.submit(submit("o2", limit_ticks=101, quantity=1))
        filled = await one.hears(ReportKind.FILLED, "o2")
        assert one.venue._transport is not None
        one.venue._transport.abort()  # as a process that is killed
        await until(lambda: not host.has_orders_line)

        other = await trader().begin(tmp_path, at=book(bids=(95, 94), asks=(96, 97)))
        other.venue.restore([RestingOrder(submit("o1", limit_ticks=95, quantity=3), "V", 3, 0, 95)], {("s", "A.X"): 7})
        other.venue.reconcile(("o1", "o2", "o3"))
        await until(lambda: len(other.reports) >= 6)
        standing = host._venue.standing() if host._venue is not None else None

    assert other.kinds("o1") == [ReportKind.RESTATED, ReportKind.ACCEPTED]
    assert [one.trade_id for one in other.reports if one.trade_id] == [filled.trade_id]
    assert other.kinds("o3") == [ReportKind.CANCELED]
    # The venue knows better than whoever has started again what is open and held.
    assert standing is not None
    assert standing.open_orders == ("o1",)
    assert standing.positions == {("s", "A.X"): 1}


async def test_a_start_that_goes_back_in_market_time_finds_its_orders_too(tmp_path: Path) -> None:
    async with hosting(tmp_path):
        one = await trader().begin(tmp_path)
        one.venue.submit(submit("o1", limit_ticks=95, time_in_force=TimeInForce.GTD, expire_ns=NOW + 3_600 * NS_PER_S))
        await one.hears(ReportKind.ACCEPTED)
        other = trader()
        other.clock = EventClock(NOW - 60 * NS_PER_S)
        await other.begin(tmp_path, at=book(ts=NOW - 60 * NS_PER_S))
        other.venue.cancel("o1")
        canceled = await other.hears(ReportKind.CANCELED)

    assert canceled.ts_event < NOW


async def test_a_kill_line_cancels_what_rests_without_the_line_for_orders_and_both_hear(tmp_path: Path) -> None:
    async with hosting(tmp_path):
        one = await trader().begin(tmp_path)
        one.venue.submit(submit("o1", limit_ticks=95))
        await one.hears(ReportKind.ACCEPTED)
        line = PaperKillLine(tmp_path)
        before = await blocking(line.standing)
        await blocking(line.cancel_everything)
        await one.hears(ReportKind.CANCELED)
        after = await blocking(line.standing)
        line.close()

    assert (before.open_orders, after.open_orders) == (("o1",), ())


async def test_a_kill_line_closes_a_position_and_hears_every_word_about_it(tmp_path: Path) -> None:
    async with hosting(tmp_path):
        one = await trader().begin(tmp_path)
        one.venue.submit(submit("o1", limit_ticks=101, quantity=4))
        await one.hears(ReportKind.FILLED)
        line = PaperKillLine(tmp_path)
        held = await blocking(line.standing)
        order = submit("k1", Side.SELL, 4, limit_ticks=None, reduce_only=True, time_in_force=TimeInForce.IOC, order_type=OrderType.MARKET)
        said = await blocking(line.send, order)
        flat = await blocking(line.standing)
        best = (line.best("A.X", Side.BUY), line.best("A.X", Side.SELL), line.best("B.X", Side.BUY))
        line.close()
        await one.hears(ReportKind.FILLED, "k1")

    assert held.positions == {("s", "A.X"): 4}
    assert [report.kind for report in said] == [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert flat.positions == {}
    assert best == (99, 101, None)


async def test_a_line_that_says_nonsense_is_closed_and_the_others_stay(tmp_path: Path) -> None:
    async with hosting(tmp_path) as host:
        one = await trader().begin(tmp_path)
        with unix_sockets.short_address(tmp_path, SOCKET_NAME) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        writer.write(b"\x00\x00\x00\x03abc")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        one.venue.submit(submit("o1", limit_ticks=95))
        await one.hears(ReportKind.ACCEPTED)

    assert host.counts["lines"] == 2


async def test_more_lines_than_there_is_room_for_are_not_heard(tmp_path: Path) -> None:
    async with hosting(tmp_path) as host:
        lines = [await blocking(PaperKillLine, tmp_path) for _ in range(9)]
        with pytest.raises(StorageError):
            await blocking(lines[-1].standing)
        answered = await blocking(lines[0].standing)
        for line in lines:
            line.close()

    assert answered.open_orders == ()
    assert host.counts["lines_refused"] == 1


async def test_nothing_is_taken_before_somebody_has_said_what_trades(tmp_path: Path) -> None:
    async with hosting(tmp_path):
        line = PaperKillLine(tmp_path)
        with pytest.raises(StorageError, match="the venue refuses: no line for orders has said yet what trades here"):
            await blocking(line.send, submit("k1"))
        line.close()


async def test_a_clean_stop_ends_the_venue_and_a_line_that_breaks_does_not(tmp_path: Path) -> None:
    async with hosting(tmp_path) as host:
        one = await trader().begin(tmp_path)
        await until(lambda: host.has_orders_line)
        host._orders.close()  # type: ignore[union-attr]
        await until(lambda: bool(one.losses))
        assert not host.ended.is_set()
        one.venue.submit(submit("o1"))
        lost = await one.hears(ReportKind.LOST)

        other = await trader().begin(tmp_path)
        other.venue.stop()
        await until(host.ended.is_set)

    assert lost.reason == DOWN
    assert one.losses == [f"{DOWN}: the venue has closed it"]
    assert other.losses == []


async def test_a_venue_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"no venue answers at .*venue\.sock"):
        await trader().begin(tmp_path)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_a_typed_error(content: bytes) -> None:
    for decode in (to_venue, from_venue):
        try:
            decode(content)
        except WireError:
            continue


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_frames_are_the_same_however_the_stream_is_cut(sizes: list[int], rng: Any) -> None:
    frames = [Submit(now_ns=size, order=submit("x" * size)) for size in sizes]
    stream, unpacker = b"".join(map(pack, frames)), Unpacker()
    bodies: list[bytes] = []
    while stream:
        cut = rng.randint(1, len(stream))
        bodies += unpacker.feed(stream[:cut])
        stream = stream[cut:]

    assert [to_venue(body) for body in bodies] == frames


def test_a_length_that_no_frame_has_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(WireError, match="allowed"):
        list(Unpacker().feed((MAX_FRAME + 1).to_bytes(4, "big")))
    assert to_venue(pack(Look(number=3))[4:]) == Look(number=3)
