from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError
from framework.venues.queue_models import Place, Probability, RiskAverse, model_of

NAMES = ("risk_averse", "power", "power_2", "power_3", "log", "log_2")


@pytest.mark.parametrize(
    ("name", "exponent", "ahead"),
    [
        # 10 of 40 lots leave, 20 of them stand ahead of us and 20 behind: half of them behind where only sizes count.
        ("risk_averse", 1.0, 20.0),
        ("power", 1.0, 15.0),
        ("power", 3.0, 15.0),
        ("power_2", 1.0, 15.0),
        ("power_2", 2.0, 20.0 - 0.75 * 10),
        ("power_3", 1.0, 15.0),
        ("power_3", 2.0, 20.0 - 0.25 * 10),
        ("log", 1.0, 15.0),
        ("log_2", 1.0, 20.0 - (1 - math.log(21) / math.log(41)) * 10),
    ],
)
def test_a_decrease_is_split_as_the_model_says(name: str, exponent: float, ahead: float) -> None:
    place = model_of(name, exponent)(20)
    place.see(40, 1)
    assert place.ahead == 20
    place.see(30, 2)

    assert place.ahead == pytest.approx(ahead)


def test_what_is_longer_behind_us_loses_more_with_a_higher_power() -> None:
    places = [model_of("power", exponent)(10) for exponent in (0.5, 1.0, 3.0)]
    for place in places:
        place.see(40, 1)
        place.see(30, 2)

    found = [place.ahead or 0.0 for place in places]
    assert found == sorted(found)
    assert found[0] < 8 < 9.5 < found[2]


def test_a_decrease_that_trades_explain_moves_nobody_twice() -> None:
    place = model_of("power", 1.0)(20)
    assert place.trade(5, 1) == 0
    place.see(15, 2)

    assert place.ahead == 15


def test_a_decrease_beyond_the_trades_is_split() -> None:
    place = model_of("power", 1.0)(20)
    place.see(40, 1)
    place.trade(5, 2)
    place.see(25, 3)

    # 15 fewer, 5 of them traded; the other 10 are split 15 ahead to 25 behind.
    assert place.ahead == pytest.approx(15 - 10 * 15 / 40)


def test_who_is_not_enough_behind_us_cannot_leave_from_there() -> None:
    place = model_of("power", 1.0)(30)
    place.see(32, 1)
    place.see(10, 2)

    assert (place.ahead or 0) <= 10


def test_an_order_out_of_view_joins_behind_what_comes_into_view() -> None:
    for name in NAMES:
        place = model_of(name)(None)
        assert place.ahead is None
        assert place.trade(100, 1) == 0
        place.see(7, 2)
        assert place.ahead == 7


def test_the_lots_that_pass_everybody_come_to_us() -> None:
    for name in NAMES:
        place = model_of(name)(3)
        assert [place.trade(2, 1), place.trade(2, 2), place.trade(2, 3)] == [0, 1, 2]


@pytest.mark.parametrize(("left_ahead", "passed"), [(0.4, 1), (0.5, 1), (0.6, 0)])
def test_less_than_half_a_lot_ahead_is_nobody(left_ahead: float, passed: int) -> None:
    place = Probability(left_ahead, lambda ahead, behind: 1.0, 10)

    assert place.trade(1, 1) == passed


def test_after_a_session_everybody_stands_last() -> None:
    for name in NAMES:
        place = model_of(name)(0)
        place.leave_session()
        place.see(9, 1)
        assert place.ahead == 9


def test_a_model_that_nobody_knows_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="queue_model: found pro_rata; allowed risk_averse, power, power_2, power_3, log, log_2"):
        model_of("pro_rata")


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=30)


@given(st.sampled_from(NAMES), st.sampled_from((0.5, 1.0, 2.0, 3.0)), st.integers(0, 60), steps)
def test_no_model_goes_back_jumps_the_visible_queue_or_gives_more_than_traded(
    name: str, exponent: float, shown: int, script: list[tuple[bool, int]]
) -> None:
    place: Place = model_of(name, exponent)(shown)
    before = float(shown)
    for now, (is_trade, size) in enumerate(script, 1):
        if is_trade:
            assert 0 <= place.trade(size, now) <= size
        else:
            place.see(size, now)
            assert (place.ahead or 0) <= max(size, 0)
        assert place.ahead is not None
        assert 0 <= place.ahead <= before
        before = place.ahead


@given(st.integers(0, 60), steps)
def test_no_probability_model_is_behind_the_risk_averse_one_on_books_alone(shown: int, script: list[tuple[bool, int]]) -> None:
    careful, hopeful = RiskAverse(shown), model_of("power", 2.0)(shown)
    assert isinstance(hopeful, Probability)
    for now, (_, size) in enumerate(script, 1):
        careful.see(size, now)
        hopeful.see(size, now)
        assert (hopeful.ahead or 0) <= (careful.ahead or 0) + 1e-9
