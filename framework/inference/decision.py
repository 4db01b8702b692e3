"""What a strategy does about a prediction: the mission's six steps as one pure function over one table.

`decide` walks the guards in order; the first that holds names the cell. Where none holds, the prediction is fresh and
confident, and position, flow type and `on_sell` name the cell. Each cell has one action, so a reason says everything.
`as_markdown` prints the whole table; `docs/decision_table.md` is its output.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from framework.config import StrategyFile
from framework.messages import Action, FailureReason, Prediction


class OnSell(StrEnum):
    """What a confident SELL means: go short, be flat, or nothing (the mission: execute the sell, or avoid the trade)."""

    SHORT = "short"
    FLAT = "flat"
    IGNORE = "ignore"


class Cooldown(StrEnum):
    """Whether the next prediction may be requested."""

    READY = "READY"
    COOLING = "COOLING"
    IN_FLIGHT = "IN_FLIGHT"


class Holding(StrEnum):
    """Which way the strategy stands in its instrument."""

    SHORT = "SHORT"
    FLAT = "FLAT"
    LONG = "LONG"

    @staticmethod
    def of(position_lots: int) -> Holding:
        """Return the holding of a signed position."""
        return Holding.FLAT if position_lots == 0 else Holding.LONG if position_lots > 0 else Holding.SHORT


class Cell(StrEnum):
    """Every cell of the decision table; the `reason` of a decision."""

    BOOK_INVALID = "BOOK_INVALID"
    PREDICTION_PENDING = "PREDICTION_PENDING"
    COOLDOWN = "COOLDOWN"
    INSUFFICIENT_DOM = "INSUFFICIENT_DOM"
    PREDICTION_DUE = "PREDICTION_DUE"
    ML_TIMEOUT = "ML_TIMEOUT"
    ML_DOWN = "ML_DOWN"
    ML_NO_MODEL = "ML_NO_MODEL"
    ML_OVERLOADED = "ML_OVERLOADED"
    ML_EXPIRED = "ML_EXPIRED"
    ML_SCHEMA_MISMATCH = "ML_SCHEMA_MISMATCH"
    ML_BAD_REPLY = "ML_BAD_REPLY"
    ML_REFUSED = "ML_REFUSED"
    PREDICTION_TOO_OLD = "PREDICTION_TOO_OLD"
    BOOK_MOVED = "BOOK_MOVED"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    ENTER_LONG = "ENTER_LONG"
    ENTER_SHORT = "ENTER_SHORT"
    HOLD_LONG = "HOLD_LONG"
    HOLD_SHORT = "HOLD_SHORT"
    CLOSE_LONG = "CLOSE_LONG"
    CLOSE_SHORT = "CLOSE_SHORT"
    REVERSE_TO_LONG = "REVERSE_TO_LONG"
    REVERSE_TO_SHORT = "REVERSE_TO_SHORT"
    SELL_STAYS_FLAT = "SELL_STAYS_FLAT"
    SELL_IGNORED = "SELL_IGNORED"
    NEUTRAL = "NEUTRAL"
    ORDER_WORKING = "ORDER_WORKING"


WAITING: Final = frozenset({Cell.BOOK_INVALID, Cell.PREDICTION_PENDING, Cell.COOLDOWN, Cell.INSUFFICIENT_DOM, Cell.PREDICTION_DUE})
"""Cells in which the flow waits for its inputs: nothing was decided yet, so nothing is recorded."""


class DecisionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user configured: thresholds of the guards, and what SELL means."""

    confidence_threshold: float = 0.6
    min_dom_samples: int = 10
    max_prediction_age_s: float = 1.0
    max_book_moves: int = 20
    on_sell: OnSell = OnSell.SHORT

    @staticmethod
    def of(file: StrategyFile, on_sell: OnSell = OnSell.SHORT) -> DecisionSettings:
        """Take the mission's keys from a strategy's file."""
        return DecisionSettings(
            confidence_threshold=file.prediction_confidence_threshold,
            min_dom_samples=file.min_dom_samples,
            max_prediction_age_s=file.max_prediction_age_s,
            max_book_moves=file.max_book_moves,
            on_sell=on_sell,
        )


class DecisionInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a decision depends on.

    `rows` and `total_rows` are the `row_count` and `total_rows` of the DOM view now; `outcome` is the prediction, the
    reason why there is none, or None while none was asked for.
    """

    position_lots: int
    has_open_orders: bool
    is_book_sound: bool
    cooldown: Cooldown
    rows: int
    total_rows: int
    now_ns: int
    outcome: Prediction | FailureReason | None
    settings: DecisionSettings


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and the cell that says so."""

    action: Action
    reason: Cell


def decide(inputs: DecisionInputs) -> Decision:
    """Return the decision for `inputs`. Total, pure and never raises."""
    cell = cell_of(inputs)
    return Decision(action=ACTIONS[cell], reason=cell)


def cell_of(inputs: DecisionInputs) -> Cell:
    """Return the cell of the table that `inputs` fall into."""
    for guard in GUARDS:
        if guard.holds(inputs):
            return guard.cell
    # No guard held, so the outcome is a prediction: fresh, confident, on a sound book.
    assert isinstance(inputs.outcome, Prediction)
    cell = CONFIDENT[Holding.of(inputs.position_lots), inputs.outcome.flow_type.direction, inputs.settings.on_sell]
    return Cell.ORDER_WORKING if inputs.has_open_orders and ACTIONS[cell] in ENTRIES else cell


class Guard(NamedTuple):
    """One row of the first half of the table: the cell, its condition in words, and the condition."""

    cell: Cell
    words: str
    holds: Callable[[DecisionInputs], bool]


def _failed(reason: FailureReason) -> Callable[[DecisionInputs], bool]:
    return lambda inputs: inputs.outcome is reason


def _is_too_old(inputs: DecisionInputs) -> bool:
    outcome = inputs.outcome
    return isinstance(outcome, Prediction) and outcome.age_s(inputs.now_ns) > inputs.settings.max_prediction_age_s


def _has_moved(inputs: DecisionInputs) -> bool:
    outcome = inputs.outcome
    return isinstance(outcome, Prediction) and inputs.total_rows - outcome.as_of_total_rows > inputs.settings.max_book_moves


def _is_unsure(inputs: DecisionInputs) -> bool:
    outcome = inputs.outcome
    # Written so that NaN, which compares false with everything, is unsure.
    return isinstance(outcome, Prediction) and not inputs.settings.confidence_threshold <= outcome.confidence <= 1.0


GUARDS: Final[tuple[Guard, ...]] = (
    Guard(Cell.BOOK_INVALID, "the book is invalid", lambda inputs: not inputs.is_book_sound),
    Guard(
        Cell.PREDICTION_PENDING,
        "no outcome yet, a request is in flight",
        lambda inputs: inputs.outcome is None and inputs.cooldown is Cooldown.IN_FLIGHT,
    ),
    Guard(
        Cell.COOLDOWN,
        "no outcome yet, the cooldown runs",
        lambda inputs: inputs.outcome is None and inputs.cooldown is Cooldown.COOLING,
    ),
    Guard(
        Cell.INSUFFICIENT_DOM,
        "fewer rows than `min_dom_samples`",
        lambda inputs: inputs.rows < inputs.settings.min_dom_samples,
    ),
    Guard(Cell.PREDICTION_DUE, "no outcome yet, nothing stands in the way of a request", lambda inputs: inputs.outcome is None),
    Guard(Cell.ML_TIMEOUT, "no answer before the deadline", _failed(FailureReason.TIMEOUT)),
    Guard(Cell.ML_DOWN, "the ML process is down", _failed(FailureReason.ML_DOWN)),
    Guard(Cell.ML_NO_MODEL, "the ML process has no model", _failed(FailureReason.NO_MODEL)),
    Guard(Cell.ML_OVERLOADED, "the ML process is overloaded", _failed(FailureReason.OVERLOADED)),
    Guard(Cell.ML_EXPIRED, "the request expired before it was served", _failed(FailureReason.EXPIRED)),
    Guard(Cell.ML_SCHEMA_MISMATCH, "the two processes disagree about the rows", _failed(FailureReason.SCHEMA_MISMATCH)),
    Guard(Cell.ML_BAD_REPLY, "the answer makes no sense", _failed(FailureReason.BAD_REPLY)),
    Guard(Cell.ML_REFUSED, "the ML process refused the request", _failed(FailureReason.REFUSED)),
    Guard(Cell.PREDICTION_TOO_OLD, "older than `max_prediction_age_s`", _is_too_old),
    Guard(Cell.BOOK_MOVED, "the book moved more than `max_book_moves` times since", _has_moved),
    Guard(Cell.LOW_CONFIDENCE, "confidence below the threshold, or not a number from 0 to 1", _is_unsure),
)
"""The first half of the table, in order. An outcome is not asked about the cooldown: its request has passed it."""

CONFIDENT: Final[dict[tuple[Holding, int, OnSell], Cell]] = {
    (Holding.FLAT, 1, OnSell.SHORT): Cell.ENTER_LONG,
    (Holding.FLAT, 1, OnSell.FLAT): Cell.ENTER_LONG,
    (Holding.FLAT, 1, OnSell.IGNORE): Cell.ENTER_LONG,
    (Holding.FLAT, 0, OnSell.SHORT): Cell.NEUTRAL,
    (Holding.FLAT, 0, OnSell.FLAT): Cell.NEUTRAL,
    (Holding.FLAT, 0, OnSell.IGNORE): Cell.NEUTRAL,
    (Holding.FLAT, -1, OnSell.SHORT): Cell.ENTER_SHORT,
    (Holding.FLAT, -1, OnSell.FLAT): Cell.SELL_STAYS_FLAT,
    (Holding.FLAT, -1, OnSell.IGNORE): Cell.SELL_IGNORED,
    (Holding.LONG, 1, OnSell.SHORT): Cell.HOLD_LONG,
    (Holding.LONG, 1, OnSell.FLAT): Cell.HOLD_LONG,
    (Holding.LONG, 1, OnSell.IGNORE): Cell.HOLD_LONG,
    (Holding.LONG, 0, OnSell.SHORT): Cell.NEUTRAL,
    (Holding.LONG, 0, OnSell.FLAT): Cell.NEUTRAL,
    (Holding.LONG, 0, OnSell.IGNORE): Cell.NEUTRAL,
    (Holding.LONG, -1, OnSell.SHORT): Cell.REVERSE_TO_SHORT,
    (Holding.LONG, -1, OnSell.FLAT): Cell.CLOSE_LONG,
    (Holding.LONG, -1, OnSell.IGNORE): Cell.SELL_IGNORED,
    (Holding.SHORT, 1, OnSell.SHORT): Cell.REVERSE_TO_LONG,
    # A strategy that does not go short may still stand short: its config changed, or its default behaviour sold.
    (Holding.SHORT, 1, OnSell.FLAT): Cell.CLOSE_SHORT,
    (Holding.SHORT, 1, OnSell.IGNORE): Cell.CLOSE_SHORT,
    (Holding.SHORT, 0, OnSell.SHORT): Cell.NEUTRAL,
    (Holding.SHORT, 0, OnSell.FLAT): Cell.NEUTRAL,
    (Holding.SHORT, 0, OnSell.IGNORE): Cell.NEUTRAL,
    (Holding.SHORT, -1, OnSell.SHORT): Cell.HOLD_SHORT,
    (Holding.SHORT, -1, OnSell.FLAT): Cell.HOLD_SHORT,
    (Holding.SHORT, -1, OnSell.IGNORE): Cell.SELL_IGNORED,
}
"""The second half: a fresh and confident prediction, by holding, direction of the flow type and `on_sell`."""

ACTIONS: Final[dict[Cell, Action]] = {
    Cell.BOOK_INVALID: Action.ABSTAIN,
    Cell.PREDICTION_PENDING: Action.ABSTAIN,
    Cell.COOLDOWN: Action.ABSTAIN,
    Cell.INSUFFICIENT_DOM: Action.ABSTAIN,
    Cell.PREDICTION_DUE: Action.ABSTAIN,
    Cell.ML_TIMEOUT: Action.DEFAULT,
    Cell.ML_DOWN: Action.DEFAULT,
    Cell.ML_NO_MODEL: Action.DEFAULT,
    Cell.ML_OVERLOADED: Action.DEFAULT,
    Cell.ML_EXPIRED: Action.DEFAULT,
    Cell.ML_SCHEMA_MISMATCH: Action.DEFAULT,
    Cell.ML_BAD_REPLY: Action.DEFAULT,
    Cell.ML_REFUSED: Action.DEFAULT,
    Cell.PREDICTION_TOO_OLD: Action.DEFAULT,
    Cell.BOOK_MOVED: Action.DEFAULT,
    Cell.LOW_CONFIDENCE: Action.DEFAULT,
    Cell.ENTER_LONG: Action.BUY,
    Cell.ENTER_SHORT: Action.SELL,
    Cell.HOLD_LONG: Action.ABSTAIN,
    Cell.HOLD_SHORT: Action.ABSTAIN,
    Cell.CLOSE_LONG: Action.CLOSE,
    Cell.CLOSE_SHORT: Action.CLOSE,
    Cell.REVERSE_TO_LONG: Action.BUY,
    Cell.REVERSE_TO_SHORT: Action.SELL,
    Cell.SELL_STAYS_FLAT: Action.ABSTAIN,
    Cell.SELL_IGNORED: Action.ABSTAIN,
    Cell.NEUTRAL: Action.ABSTAIN,
    Cell.ORDER_WORKING: Action.ABSTAIN,
}
"""The action of each cell."""

TRADES: Final = frozenset({Action.BUY, Action.SELL, Action.CLOSE})
"""Actions that send an order."""

ENTRIES: Final = frozenset({Action.BUY, Action.SELL})
"""Actions that open or turn a position; while an order of our own is open, `ORDER_WORKING` stands in their place. A CLOSE
cancels what is open and may always go."""


def as_markdown() -> str:
    """Return the table as two Markdown tables: the guards in order, then the confident predictions."""
    lines = ["| # | the first that holds | action | reason |", "|---|---|---|---|"]
    lines += [f"| {n} | {guard.words} | {ACTIONS[guard.cell]} | `{guard.cell}` |" for n, guard in enumerate(GUARDS, 1)]
    lines += ["", "| position | flow type | " + " | ".join(f"`on_sell: {on_sell}`" for on_sell in OnSell) + " |", "|---|---|---|---|---|"]
    for holding in (Holding.FLAT, Holding.LONG, Holding.SHORT):
        for words, direction in (("BUY, STRONG_BUY", 1), ("NEUTRAL", 0), ("SELL, STRONG_SELL", -1)):
            cells = (CONFIDENT[holding, direction, on_sell] for on_sell in OnSell)
            lines.append(f"| {holding} | {words} | " + " | ".join(f"{ACTIONS[cell]} `{cell}`" for cell in cells) + " |")
    return "\n".join(lines) + "\n"
