"""Which settings of a member can be searched, between which bounds, and how a member is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ml_actor.boosted import TREES, Trees
from ml_actor.fitting import FitRefused
from ml_actor.members import Linear, Member, Neural

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From `low` to `high`, both included; whole numbers, or on a logarithmic scale."""

    low: float
    high: float
    is_whole: bool = False
    is_logarithmic: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a value is in it."""
        return self.low <= value <= self.high and (not self.is_whole or float(value).is_integer())


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The ranges of a kind of member, what ships, and how to make one with other settings."""

    ranges: Mapping[str, Range]
    shipped: Callable[[Any], dict[str, float]]
    made: Callable[[Any, Values], Member]


_LINEAR: Final[Mapping[str, Range]] = {"strength": Range(low=1e-5, high=1e-2, is_logarithmic=True)}
_TREES: Final[Mapping[str, Range]] = {
    "learning_rate": Range(low=0.02, high=0.1, is_logarithmic=True),
    "num_leaves": Range(low=5, high=31, is_whole=True),
    "min_data_in_leaf": Range(low=100, high=2_000, is_whole=True, is_logarithmic=True),
    "lambda_l2": Range(low=1, high=100, is_logarithmic=True),
    "feature_fraction": Range(low=0.1, high=0.6),
    "bagging_fraction": Range(low=0.4, high=0.9),
}
_NEURAL: Final[Mapping[str, Range]] = {
    "dropout": Range(low=0.0, high=0.5),
    "input_dropout": Range(low=0.0, high=0.5),
    "decay": Range(low=0.1, high=5.0, is_logarithmic=True),
    "learning_rate": Range(low=5e-4, high=5e-3, is_logarithmic=True),
    "epochs": Range(low=3, high=14, is_whole=True),
    "nets": Range(low=1, high=5, is_whole=True),
}
_SPACES: Final[Mapping[type, Space]] = {
    Linear: Space(
        ranges=_LINEAR,
        shipped=lambda member: {"strength": member.strength},
        made=lambda member, values: replace(member, **values),
    ),
    Trees: Space(
        ranges=_TREES,
        shipped=lambda member: {name: float((TREES | dict(member.parameters))[name]) for name in _TREES},
        made=lambda member, values: replace(member, parameters=values),
    ),
    Neural: Space(
        ranges=_NEURAL,
        shipped=lambda member: {name: float(getattr(member.recipe, name)) for name in _NEURAL},
        made=lambda member, values: replace(member, recipe=replace(member.recipe, **values)),
    ),
}


def space_of(member: Member) -> Space | None:
    """Return what can be searched of a member; None if nothing can."""
    return _SPACES.get(type(member))


def with_settings(members: tuple[Member, ...], settings: Mapping[str, Values]) -> tuple[Member, ...]:
    """Return the members with settings by name in place of what ships. Raises `FitRefused` for what no member has."""
    unknown = sorted(set(settings) - {member.name for member in members})
    if unknown:
        raise FitRefused(f"settings of {', '.join(unknown)[:100]}; the model has {', '.join(member.name for member in members)}")
    return tuple(_made(member, settings[member.name]) if member.name in settings else member for member in members)


def _made(member: Member, values: Values) -> Member:
    space = space_of(member)
    ranges = space.ranges if space else {}
    for name, value in values.items():
        if name not in ranges:
            raise FitRefused(f"settings: {member.name} has no {name[:60]}; allowed {', '.join(ranges) or 'nothing'}")
        if not ranges[name].holds(value):
            raise FitRefused(f"settings: {member.name}.{name} is {value:g}; allowed {ranges[name].low:g} to {ranges[name].high:g}")
    return space.made(member, _exact(values, ranges)) if space else member


def _exact(values: Values, ranges: Mapping[str, Range]) -> dict[str, Any]:
    return {name: int(value) if ranges[name].is_whole else value for name, value in values.items()}
