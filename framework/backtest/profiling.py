"""From the journal of a run in real time to a latency profile."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from framework.backtest.answers import of_journal
from framework.backtest.latency import Profile
from framework.errors import ConfigError, StorageError
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
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_bytes(msgspec.json.encode(profile))
        os.replace(part, out)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise StorageError(f"--out {out}: cannot be written ({exc.strerror})") from exc
    return profile
