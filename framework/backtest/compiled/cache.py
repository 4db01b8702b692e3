"""Machine code on disk that is older than the code it was made of: numba looks at the file of a function, not at those of what it calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

CODE = (
    *(f"framework/strategy/compiled/{name}.py" for name in ("views", "verbs")),
    *(
        f"framework/backtest/compiled/{name}.py"
        for name in ("queues", "matching", "layout", "reasons", "memory", "lines", "gate", "venue", "orders", "loop")
    ),
)
"""Where our compiled code is, and the constants in it."""
_HOME = Path(__file__).resolve().parents[3]


def drop_stale(functions: Iterable[Any]) -> int:
    """Drop what was kept of the modules of `functions` and is older than any of our compiled code or theirs; return how many files.

    Call it before the first of them is compiled. Without this, a strategy that was compiled before an update would go on with the verbs of
    before it.
    """
    known = list(functions)
    sources = [source for pattern in CODE for source in _HOME.glob(pattern)]
    sources += [Path(function.py_func.__code__.co_filename) for function in known]
    newest_ns = max(source.stat().st_mtime_ns for source in sources if source.exists())
    stale = {index for function in known for index in _kept(function) if index.stat().st_mtime_ns < newest_ns}
    for index in stale:
        index.unlink(missing_ok=True)
    return len(stale)


def _kept(function: Any) -> list[Path]:
    """Return the indexes of what is kept of a function's module; none where it is not kept at all."""
    folder, source = function.stats.cache_path, Path(function.py_func.__code__.co_filename)
    if not folder:
        return []
    is_ours = any(source.match(pattern) for pattern in CODE)
    return list(Path(folder).glob("*.nbi" if is_ours else f"{source.stem}.*.nbi"))
