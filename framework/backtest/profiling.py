"""From the journal of a run in real time to a latency profile."""

from __future__ import annotations

from pathlib import Path

import msgspec

from framework.backtest.answers import of_journal
from framework.backtest.latency import Profile
from framework.dataset.parts import replace_file
from framework.errors import ConfigError
from framework.operations.state_dir import StateDir


def record_profile(state_dir: Path, out: Path) -> Profile:
    """Write the round trips of the predictions in a state directory's journal to `out` and return them.

    Round trips are market time: those of a run at speed 1 are what a trader would have waited, those of a run at full speed are what
    was set. Raises as `of_journal`, `ConfigError` where nothing was predicted, `StorageError` for `out`.
    """
    _, trips = of_journal(StateDir(state_dir).journal)
    if not trips:
        raise ConfigError(f"{state_dir}: no prediction was received there; run the framework in real time first")
    profile = Profile(round_trips_ms=[round(trip, 4) for trip in trips], source=str(state_dir))
    replace_file(out, msgspec.json.encode(profile))
    return profile
