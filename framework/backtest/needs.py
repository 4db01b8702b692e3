"""What a strategy asks of recordings, looked at before anything runs: without it the strategy would hear nothing and trade nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from framework.errors import ConfigError
from framework.market.formats.source import Source, holds
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.model import NS_PER_S
from framework.operations.deployments import Deployment
from framework.strategy import overrides

NEEDS: Final[dict[str, tuple[type[MarketEvent], str]]] = {"on_dom": (BookSnapshot, "books"), "on_trade_tick": (TradeTick, "trades")}
"""What a hook is called for. Bars are built from trades or mids where none are recorded, so `on_bar` is always called."""


def check_data(deployment: Deployment, sources: Sequence[Source], events: Iterator[MarketEvent]) -> None:
    """Raise `ConfigError` if the recordings lack what the strategy's hooks are called for. Reads until each was seen."""
    wanted = {kind: (hook, words) for hook, (kind, words) in NEEDS.items() if overrides(deployment.strategy_class, hook)}
    name, instrument_id = deployment.file.name, deployment.file.instrument_id
    while wanted:
        event = next(events, None)
        if event is None:
            hook, words = next(iter(wanted.values()))
            there = ", ".join(f"{source.path} ({holds(source)})" for source in sources)
            raise ConfigError(
                f"strategy {name} listens to {words} ({hook}), and there are none of {instrument_id} in {there}; "
                f"add a recording with {words} of {instrument_id}, or take a strategy that does without"
            )
        if event.instrument_id == instrument_id:
            wanted.pop(type(event), None)


def check_predictions(deployment: Deployment, sources: Sequence[Source], *, ml: str) -> None:
    """Raise `ConfigError` if predictions are asked for and the instrument has bars alone: a model is shown books."""
    instrument_id = deployment.file.instrument_id
    kinds = {holds(source) for source in sources if any(one.instrument_id == instrument_id for one in source.instruments)}
    if ml != "off" and kinds == {"bars"}:
        raise ConfigError(f"--ml {ml}: the recordings hold only bars of {instrument_id}, and predictions need books; say --ml off")


def check_span(sources: Sequence[Source], from_ns: int | None, to_ns: int | None) -> None:
    """Raise `ConfigError` if nothing was recorded between `from_ns` (included) and `to_ns` (excluded)."""
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise ConfigError(f"--from {_time(from_ns)}: is not before --to {_time(to_ns)}")
    start_ns, end_ns = min(one.start_ns for one in sources), max(one.end_ns for one in sources)
    there = f"the recordings go from {_time(start_ns)} to {_time(end_ns)} (UTC)"
    if from_ns is not None and from_ns > end_ns:
        raise ConfigError(f"--from {_time(from_ns)}: nothing comes after it; {there}")
    if to_ns is not None and to_ns <= start_ns:
        raise ConfigError(f"--to {_time(to_ns)}: nothing comes before it; {there}")


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S")
