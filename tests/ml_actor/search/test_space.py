"""Settings of members: what may be searched is what may be set, and nothing else."""

from __future__ import annotations

import pytest

from ml_actor.fitting import FitRefused
from ml_actor.known_models import find_members
from ml_actor.members import Member
from ml_actor.search.space import space_of, with_settings


def ensemble() -> tuple[Member, ...]:
    found = find_members("ensemble")
    assert not isinstance(found, str)
    return found


@pytest.mark.parametrize("member", ensemble(), ids=lambda member: member.name)
def test_what_ships_lies_in_its_ranges_and_makes_the_same_member(member: Member) -> None:
    space = space_of(member)
    assert space is not None

    shipped = space.shipped(member)
    (made,) = with_settings((member,), {member.name: shipped})

    assert all(space.ranges[name].holds(value) for name, value in shipped.items())
    assert space.shipped(made) == shipped


def test_only_the_member_that_is_named_is_changed() -> None:
    before = ensemble()

    after = with_settings(before, {"linear": {"strength": 1e-3}})

    assert [one is other for one, other in zip(before, after, strict=True)] == [member.name != "linear" for member in before]
    assert vars_of(after[0])["strength"] == 1e-3


def vars_of(member: Member) -> dict[str, float]:
    space = space_of(member)
    assert space is not None
    return space.shipped(member)


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"forest": {"depth": 3}}, "settings of forest; the model has linear, trees, mlp, mlp_steady"),
        ({"trees": {"depth": 3}}, "settings: trees has no depth; allowed learning_rate, num_leaves"),
        ({"trees": {"num_leaves": 1_000}}, "settings: trees.num_leaves is 1000; allowed 5 to 31"),
        ({"trees": {"num_leaves": 7.5}}, "settings: trees.num_leaves is 7.5; allowed 5 to 31"),
    ],
)
def test_settings_that_nobody_has_are_refused_by_name(settings: dict[str, dict[str, float]], refusal: str) -> None:
    with pytest.raises(FitRefused, match=refusal.replace(".", r"\.")):
        with_settings(ensemble(), settings)


def test_a_baseline_has_no_settings() -> None:
    found = find_members("majority")
    assert not isinstance(found, str)

    assert space_of(found[0]) is None
