"""Golden runs: each shipped strategy on one recording of the simulated market, as digests of integers and words, and exact money.

No float, no wall time and no id gets into a digest, so that the same code gives the same one on every machine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.backtest.answers import Answer, Answers
from framework.backtest.engine import MODEL, OFF, Plan, Source, execute
from framework.backtest.latency import Constant
from framework.backtest.planning import plan_for
from framework.config import MainConfig
from framework.market.formats import open_sources
from framework.messages import BookSnapshot
from framework.model import NS_PER_S
from framework.operations.lineup import HOME
from framework.research.run_facts import Fact, read_run
from framework.venues.simulated import DEFAULT_START_NS
from tests.flows.harness import record_market

PATH: Final = Path(__file__).with_name("golden.json")
SEED: Final = 11
LONGEST_S: Final = 720.0
STRATEGIES: Final[dict[str, tuple[float, str]]] = {
    "book_imbalance": (240.0, OFF),
    "ml_futures": (240.0, MODEL),
    "market_maker": (240.0, MODEL),
    "breakout": (LONGEST_S, MODEL),
    "compiled_quoter": (240.0, OFF),
}
"""For how long each trades, s, and whether it gets predictions."""
Golden = dict[str, dict[str, Any]]


def runs() -> Golden:
    """Run every shipped strategy and return what its golden says. Blocks for some seconds."""
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        folder = Path(name)
        recording = record_market(folder / "market", seed=SEED, duration_s=LONGEST_S)
        answers = _answers(recording)
        market = {"market": {"events": len(answers), "digest": _digest([(*key[1:], *_lean(book)) for key, book in answers.items()])}}
        return market | {strategy: _run(strategy, recording, folder / strategy, answers) for strategy in STRATEGIES}


def _run(strategy: str, recording: Path, keep: Path, books: dict[Any, BookSnapshot]) -> dict[str, Any]:
    duration_s, ml = STRATEGIES[strategy]
    run = execute(_plan(strategy, recording, keep, duration_s), _source(ml, books), lambda _stage, _share: None)
    last_ns = DEFAULT_START_NS + round((duration_s - 1.0) * NS_PER_S)  # how a run is wound down is not the strategy's doing
    facts = [_plain(fact) for fact in read_run(keep).facts if fact.kind != "prediction" and fact.ts_event < last_ns]
    summary = run.summary
    money = {name: _money(getattr(summary, name)) for name in ("realized_pnl", "fees")}
    counts = {name: getattr(summary, name) for name in ("predictions", "decisions", "orders", "fills", "position")}
    return counts | money | {"digest": _digest(facts)}


def _plan(strategy: str, recording: Path, keep: Path, duration_s: float) -> Plan:
    made = plan_for(
        HOME / "config" / "strategies" / f"{strategy}.yaml",
        [recording],
        ml=OFF,
        latency=None,
        settings=MainConfig(),
        instrument_id=None,
        state_dir=keep,
        seed=SEED,
    )
    return replace(made, keep=keep, latency=Constant(5.0), to_ns=DEFAULT_START_NS + round(duration_s * NS_PER_S))


# --- predictions that anybody can work out: which way the best sizes lean ------------------------------------------------------


def _answers(recording: Path) -> dict[Any, BookSnapshot]:
    events = open_sources([recording])[0].events(1)
    books = (event for event in events if isinstance(event, BookSnapshot) and event.bid_sizes and event.ask_sizes)
    return {(book.instrument_id, book.ts_event, book.sequence): book for book in books}


def _lean(book: BookSnapshot) -> tuple[int, ...]:
    return (book.bid_ticks[0], round(book.bid_sizes[0]), book.ask_ticks[0], round(book.ask_sizes[0]))


def _source(ml: str, books: dict[Any, BookSnapshot]) -> Source:
    if ml == OFF:
        return Source(kind=OFF)
    return Source(kind=MODEL, answers=Answers({key: _answer(book) for key, book in books.items()}, "v0001-golden"))


def _answer(book: BookSnapshot) -> Answer:
    lean = book.bid_sizes[0] / (book.bid_sizes[0] + book.ask_sizes[0])
    side = "BUY" if lean > 0.5 else "SELL"
    return Answer(0.8 * (1 - lean), 0.2, 0.8 * lean, side, max(lean, 1 - lean), 1, 0.1, "v0001-golden", 10, True)


# --- digests -------------------------------------------------------------------------------------------------------------------


def _plain(fact: Fact) -> list[Any]:
    what = dict(fact.what) | ({"reason": str(fact.what["reason"]).partition(" ")[0]} if "reason" in fact.what else {})
    what.pop("book", None)
    return [fact.ts_event - DEFAULT_START_NS, fact.kind, sorted(what.items())]


def _digest(lines: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(msgspec.json.encode(line) + b"\n")
    return digest.hexdigest()[:32]


def _money(value: Decimal) -> str:
    return f"{value.normalize():f}"
