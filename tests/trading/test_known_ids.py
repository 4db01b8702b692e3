"""Whether an id was ever used: the same answer as the journal's index, whatever the id looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.known_ids import KnownIds
from tests.trading.conftest import submit
from tests.trading.room import Room

IDS = st.one_of(
    st.builds("{}-{}".format, st.sampled_from(("s", "s-1", "flatten", "s-d", "-")), st.integers(0, 30)),
    st.builds("s-d{}".format, st.integers(0, 30)),
    st.builds("s-{:04d}".format, st.integers(0, 30)),
    st.sampled_from(("s", "17", "s17", "s-", "s-d", "-5", "s-٣", "", "s-" + "9" * 25, "--5", "-d5", "a\nb-5", "s-5\n")),
)


class Counting(Journal):
    """A journal that counts how often it is asked."""

    asked = 0

    def has_order(self, client_order_id: str) -> bool:
        self.asked += 1
        return super().has_order(client_order_id)


@given(st.lists(IDS, max_size=20), st.lists(IDS, max_size=20), st.lists(IDS, max_size=20))
def test_the_answer_is_that_of_the_journal(before: list[str], later: list[str], asked: list[str]) -> None:
    journal = Journal(":memory:")
    for name in before:
        journal.append("SubmitOrder", submit(name), durable=True, key=name)
    ids = KnownIds(journal)
    ids.take(replay(journal).facts().ids)
    for name in later:
        ids.use(name)
        journal.append("SubmitOrder", submit(name), durable=True, key=name)

    for name in (*before, *later, *asked):
        assert ids.is_used(name) is journal.has_order(name)
    journal.close()


def test_the_next_ids_of_a_strategy_need_no_look_at_the_disk() -> None:
    journal = Counting(":memory:")
    room = Room(journal)
    room.execution.recover()
    before = journal.asked
    room.tell(*(submit(f"s-{number}", limit_ticks=90 + number) for number in range(1, 6)))

    assert journal.asked == before
    assert room.execution.counts["orders"] == 5


@pytest.mark.parametrize("name", ["s-1", "s-5"])
def test_an_id_of_the_run_before_is_known_to_the_next_one(name: str) -> None:
    journal = Journal(":memory:")
    Room(journal).tell(submit("s-1"), submit("s-5"))
    again = Room(journal)
    again.execution.recover()
    again.tell(submit(name, limit_ticks=90), submit("s-6", limit_ticks=91))

    assert again.execution.counts["denied_duplicate_id"] == 1
    assert again.execution.counts["orders"] == 1
