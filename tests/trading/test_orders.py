from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus, OrderType, Side, TimeInForce
from framework.trading.orders import NEXT, Effect, Order


def intent(quantity: int = 10) -> SubmitOrder:
    return SubmitOrder(
        client_order_id="o1",
        strategy_id="s",
        instrument_id="A.X",
        side=Side.BUY,
        quantity=quantity,
        order_type=OrderType.LIMIT,
        limit_ticks=100,
        time_in_force=TimeInForce.DAY,
        ts_event=0,
    )


def report(kind: ReportKind, quantity: int = 0, trade_id: str = "", ticks: int = 100) -> ExecutionReport:
    return ExecutionReport(client_order_id="o1", kind=kind, ts_event=1, last_quantity=quantity, trade_id=trade_id, last_ticks=ticks)


def after(*reports: ExecutionReport) -> Order:
    order = Order(intent())
    for one in reports:
        order.apply(one)
    return order


def test_the_usual_life_of_an_order() -> None:
    order = after(report(ReportKind.ACCEPTED), report(ReportKind.FILLED, 4, "t1", 99), report(ReportKind.FILLED, 6, "t2", 100))

    assert order.status is OrderStatus.FILLED
    assert order.average_ticks == 99.6


def test_a_fill_before_its_acknowledgement_counts_and_the_acknowledgement_does_not_undo_it() -> None:
    order = after(report(ReportKind.FILLED, 4, "t1"), report(ReportKind.ACCEPTED))

    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)


def test_a_repeated_fill_is_counted_once() -> None:
    order = after(report(ReportKind.FILLED, 4, "t1"))

    assert order.apply(report(ReportKind.FILLED, 4, "t1")) is Effect.DUPLICATE
    assert order.filled_quantity == 4


def test_a_fill_after_a_cancel_is_booked_and_flagged() -> None:
    order = after(report(ReportKind.CANCELED))

    assert order.apply(report(ReportKind.FILLED, 4, "t1")) is Effect.LATE_FILL
    assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, 4)


def test_a_lost_answer_makes_it_unknown_and_only_evidence_ends_that() -> None:
    order = after(report(ReportKind.LOST))
    order.request_cancel()

    assert order.status is OrderStatus.UNKNOWN
    assert order.open_quantity == 10
    order.apply(report(ReportKind.CANCEL_REJECTED))
    assert order.status is OrderStatus.UNKNOWN
    order.apply(report(ReportKind.ACCEPTED))
    assert order.status is OrderStatus.ACCEPTED


def test_a_fill_during_a_pending_cancel_keeps_it_pending() -> None:
    order = after(report(ReportKind.ACCEPTED))
    order.request_cancel()
    order.apply(report(ReportKind.FILLED, 3, "t1"))

    assert order.status is OrderStatus.PENDING_CANCEL


def test_a_rejected_cancel_of_a_partly_filled_order_returns_it_to_partly_filled() -> None:
    order = after(report(ReportKind.FILLED, 3, "t1"))
    order.request_cancel()
    order.apply(report(ReportKind.CANCEL_REJECTED))

    assert order.status is OrderStatus.PARTIALLY_FILLED


def test_more_than_was_ordered_is_an_anomaly() -> None:
    order = after()

    assert order.apply(report(ReportKind.FILLED, 11, "t1")) is Effect.ANOMALY
    assert order.filled_quantity == 0


def test_every_open_state_has_a_row_and_no_closed_one_has() -> None:
    assert set(NEXT) == OPEN


reports = st.builds(
    report,
    st.sampled_from(ReportKind),
    st.integers(-1, 6),
    st.sampled_from(("t1", "t2", "t3", "t4", "t5")),
    st.integers(95, 105),
)


@given(st.lists(st.one_of(reports, st.just("cancel")), max_size=30))
def test_whatever_a_venue_says_quantities_add_up_and_closed_orders_stay_closed(script: list[ExecutionReport | str]) -> None:
    order = Order(intent())
    distinct: dict[str, tuple[int, int]] = {}
    for step in script:
        before = order.status
        if isinstance(step, str):
            order.request_cancel()
        elif order.apply(step) in (Effect.FILLED, Effect.LATE_FILL):
            assert step.trade_id not in distinct
            distinct[step.trade_id] = (step.last_quantity, step.last_ticks)
        assert 0 <= order.filled_quantity <= order.intent.quantity
        assert order.filled_quantity == sum(quantity for quantity, _ in distinct.values())
        assert order.filled_notional_ticks == sum(quantity * ticks for quantity, ticks in distinct.values())
        assert (order.open_quantity > 0) == (order.status in OPEN)
        if before in CLOSED:
            assert order.status in (before, OrderStatus.FILLED)
