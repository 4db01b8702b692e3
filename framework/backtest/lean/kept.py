"""The recording of the last plan of this process, kept for the next one: the points of a sweep read it once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from framework.backtest.engine import Plan
from framework.backtest.lean.columns import MarketColumns, read_columns
from framework.progress import Progress


def columns_of(plan: Plan, on_progress: Progress) -> MarketColumns:
    """Return the recordings of a plan as arrays; they are read unless the last plan of this process had the same, unchanged. Blocks."""
    instrument_id = plan.deployment.file.instrument_id
    kept = _kept(plan.data, tuple(map(_written_ns, plan.data)), instrument_id, plan.from_ns, plan.to_ns)
    if not kept:
        kept.append(read_columns(plan.data, instrument_id, on_progress, from_ns=plan.from_ns, to_ns=plan.to_ns))
    return kept[0]


@lru_cache(maxsize=1)
def _kept(*_read: object) -> list[MarketColumns]:
    """Return the place of what was read last: what recordings, as they were written, and which part."""
    return []


def _written_ns(path: Path) -> int:
    """Return when a recording was last written; 0 for a name that is no file (of the catalogue)."""
    return path.stat().st_mtime_ns if path.exists() else 0
