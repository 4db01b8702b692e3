"""What a run was asked, as far as it decides about orders: market, matching, strategy, limits, latencies, where predictions come from.

Two runs ask the same question when these agree, whatever else stands in their settings: ports, heartbeats and training schedules differ
between paper and its own backtest and decide nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.operations.options import SIMULATED
from framework.trading.records import RunStarted

Question = dict[str, Any]
Differing = dict[str, tuple[Any, Any]]
MATCHING: Final = "matching"
SHOWN: Final = 16
"""Digits of a digest."""
_ROOMS: Final = ("risk", "paper", "replay", "ml_service.timeout", "training.window_rows")
_SIMULATED_ONLY: Final = "simulated_market"
_OWN_WORDS: Final = ("paper.queue_model", "paper.queue_power")


def question_of(started: RunStarted, strategies: Collection[str] = ()) -> Question:
    """Return what a run was asked, by name. `strategies` are those that are looked at; none: all that ran."""
    settings = _flat(_settings(started))
    is_simulated = started.market == (SIMULATED,)
    rooms = (*_ROOMS, _SIMULATED_ONLY) if is_simulated else _ROOMS
    question: Question = {name: value for name, value in settings.items() if name.startswith(rooms) and name not in _OWN_WORDS}
    question |= {
        "code": started.version[:SHOWN],
        "market": _market(started, is_simulated=is_simulated),
        MATCHING: _matching(settings, is_simulated=is_simulated),
        "predictions": "none" if settings.get("ml_service.mode") == "off" else "asked for",
        "python": started.python,
        "speed": "max" if started.speed is None else f"{started.speed:g}",
    }
    question |= {f"instrument {one.instrument_id}": _words(one) for one in started.instruments}
    chosen = strategies or started.strategy_digests
    return question | {f"strategy {name}": digest[:SHOWN] for name, digest in started.strategy_digests.items() if name in chosen}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Differing:
    """Return the names under which two mappings differ, with both values; None where one has none."""
    return {name: (a.get(name), b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


def deciding(settings: Differing, names: tuple[str, ...]) -> Differing:
    """Return those of the settings that differ whose names begin so."""
    return {name: pair for name, pair in settings.items() if name.startswith(names)}


def _settings(started: RunStarted) -> Any:
    """Return the settings that a run wrote down; of a journal from before it did, their digests."""
    if not started.settings:
        return {"risk": started.limits_digest[:SHOWN], "paper": started.config_digest[:SHOWN]}
    return msgspec.json.decode(started.settings)


def _market(started: RunStarted, *, is_simulated: bool) -> str:
    """Return the names of what was replayed; a simulated market that was recorded is the same market as its recording."""
    if is_simulated and started.record_dir:
        return Path(started.record_dir).name
    return f"{SIMULATED}, seed {started.seed}" if is_simulated else ", ".join(Path(name).name for name in started.market)


def _matching(settings: Mapping[str, Any], *, is_simulated: bool) -> str:
    if is_simulated:
        return "exact queue of the simulated market, in which our orders stand"
    model = settings.get("paper.queue_model")
    power = f" {settings.get('paper.queue_power'):g}" if model == "power" else ""
    return f"paper venue beside the recording, queue model {model}{power}"


def _words(instrument: Any) -> str:
    facts = msgspec.to_builtins(instrument)
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value not in (None, "", 0) and name != "instrument_id")


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        return {name: value for key, one in tree.items() for name, value in _flat(one, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: tree}
