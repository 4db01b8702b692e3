"""The shadow lane: challengers answer the windows that the champion answered, after its reply has left, and are never traded.

Windows wait in a bounded queue; what does not fit is shed and counted. Live, the lane works in the pauses between requests: not
before `IDLE_S` have passed since the last one, one window a turn. In lockstep (market time waits for replies) everything is done
before the next request is answered, so that the same input gives the same trial, the same promotion, at the same prediction.

Labels are the market's: what the mid did by the windows of later requests (`tape`), or, where those do not overlap, by the rows
that are recorded when the next training begins (`label_from`). Strategies' feedback has no part in a trial.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from framework.window import Rows, Window
from ml_actor.ports import Predictor, Scored
from ml_actor.tape import RowLabels, Tape
from ml_actor.trial import Claim, Move, Outcome, Rules, Trial, words

log = logging.getLogger("MLService")

MAX_WAITING: Final = 256
MAX_INSTRUMENTS: Final = 64
MAX_CHALLENGERS: Final = 3
MAX_MISSED: Final = 10_000
IDLE_S: Final = 0.001


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A trial that is over."""

    champion: str
    challenger: str
    outcome: Outcome
    reason: str
    evidence: dict[str, Any]


class _Pending(msgspec.Struct, frozen=True):
    """What champion and challengers said about a window, until the market has moved on."""

    row: int
    ts_event: int
    sequence: int
    champion: str
    claims: dict[str, Claim]


class ShadowLane:
    """Runs the trials against the champion that serves. Lives on the service's loop; nothing suspends.

    `on_verdict(verdict, challenger)` is called once per trial that ends; `on_label(instrument, row, claim, move)` for each labelled
    window of the champion; `on_window(instrument, row, window)` for each new one. `later(delay_s, call)` schedules a turn and `now_s`
    is the loop's time; without `later` it is lockstep: `settle` does all the work.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        on_verdict: Callable[[Verdict, Predictor], None],
        on_label: Callable[[str, int, Claim, Move], None] = lambda *_: None,
        on_window: Callable[[str, int, Window], None] = lambda *_: None,
        wall_ns: Callable[[], int] = lambda: 0,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        now_s: Callable[[], float] = lambda: 0.0,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._rules = rules
        self._on_verdict = on_verdict
        self._on_label = on_label
        self._on_window = on_window
        self._wall_ns = wall_ns
        self._later = later
        self._now_s = now_s
        self._max_waiting = max_waiting
        self._champion: Predictor | None = None
        self._challengers: dict[str, Predictor] = {}
        self._trials: dict[str, Trial] = {}
        self._tapes: dict[str, Tape] = {}
        self._waiting: deque[tuple[Window, Claim, str]] = deque()
        self._pending: dict[str, deque[_Pending]] = {}
        self._missed: deque[tuple[str, _Pending]] = deque()
        self._verdicts: list[tuple[Verdict, Predictor]] = []
        self._scored: dict[str, int] = {}
        self._busy_s = 0.0
        self._is_scheduled = False
        self._counts: Counter[str] = Counter()

    # --- who takes part ----------------------------------------------------------------------------------------------

    @property
    def challengers(self) -> tuple[str, ...]:
        """Return the versions on trial, oldest first."""
        return tuple(self._challengers)

    def crown(self, champion: Predictor | None) -> None:
        """Begin anew against another champion: trials are about a pair. Challengers of another horizon leave."""
        if champion is not None and self._champion is not None and champion.version == self._champion.version:
            return
        self._champion = champion
        self._pending.clear()
        self._missed.clear()
        kept = [one for one in self._challengers.values() if champion is not None and one.version != champion.version]
        self._challengers.clear()
        self._trials.clear()
        for challenger in kept:
            self.add(challenger)

    def add(self, challenger: Predictor, trial: Trial | None = None) -> None:
        """Put a version on trial, or go on with a trial that was written down. The oldest leaves when there are too many.

        Does nothing without a champion, for the champion itself, or for another horizon than the champion's.
        """
        champion = self._champion
        if champion is None or challenger.version == champion.version or challenger.horizon_rows != champion.horizon_rows:
            return
        for version in tuple(self._challengers)[: max(0, len(self._challengers) + 1 - MAX_CHALLENGERS)]:
            self.drop(version)
        fits = trial is not None and (trial.champion, trial.challenger) == (champion.version, challenger.version)
        self._challengers[challenger.version] = challenger
        self._trials[challenger.version] = trial if fits and trial is not None else self._new_trial(champion, challenger)

    def drop(self, version: str) -> None:
        """End a trial without a verdict. Does nothing for a version that is not on trial."""
        self._challengers.pop(version, None)
        self._trials.pop(version, None)

    def _new_trial(self, champion: Predictor, challenger: Predictor) -> Trial:
        return Trial(
            champion=champion.version,
            challenger=challenger.version,
            block_rows=champion.horizon_rows,
            started_ns=self._wall_ns(),
        )

    def trials(self) -> tuple[Trial, ...]:
        """Return the trials as they stand, to be written down or shown."""
        return tuple(self._trials.values())

    def status(self) -> dict[str, Any]:
        """Return the trials and counters: windows scored, shed, seen twice, without a label; joints of the tapes."""
        return {
            **dict.fromkeys(("scored", "shed", "repeated", "unlabelled", "labelled", "faults"), 0),
            **self._counts,
            "waiting": len(self._waiting),
            "pending": sum(map(len, self._pending.values())),
            "missed": len(self._missed),
            "joints": sum(tape.joints for tape in self._tapes.values()),
            "trials": [trial.facts() for trial in self._trials.values()],
        }

    # --- the lane ----------------------------------------------------------------------------------------------------

    def offer(self, window: Window, scores: Scored, version: str) -> None:
        """Take a window that the champion answered. Costs a microsecond; never raises."""
        if len(self._waiting) >= self._max_waiting:
            self._counts["shed"] += 1
            return
        self._waiting.append((window, _claim(scores), version))
        if self._later is not None:
            self._busy_s = self._now_s()
            self._schedule(IDLE_S)

    def settle(self) -> None:
        """In lockstep: do all that waits. Live: nothing."""
        while self._waiting and self._later is None:
            self._step()

    def _schedule(self, delay_s: float) -> None:
        if not self._is_scheduled and self._later is not None:
            self._is_scheduled = True
            self._later(delay_s, self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._waiting and self._now_s() - self._busy_s >= IDLE_S:
            self._step()
        if self._waiting:
            self._schedule(IDLE_S)

    def _step(self) -> None:
        window, claim, version = self._waiting.popleft()
        champion = self._champion
        if champion is None or version != champion.version:
            return
        try:
            self._score(window, claim, champion)
        # A fault in what only looks on must cost a window, not the service.
        except Exception:
            self._counts["faults"] += 1
            log.exception("shadow: a window could not be scored")
        self._deliver()

    def _deliver(self) -> None:
        """Hand over the verdicts. Last of all, because carrying one out changes who takes part."""
        verdicts, self._verdicts = self._verdicts, []
        for verdict, challenger in verdicts:
            self._on_verdict(verdict, challenger)

    def _score(self, window: Window, claim: Claim, champion: Predictor) -> None:
        instrument_id = window.instrument_id
        tape = self._tape(instrument_id)
        row = tape.extend(window)
        self._label(instrument_id, tape, champion.horizon_rows)
        if row <= self._scored.get(instrument_id, -1):
            self._counts["repeated"] += 1
            return
        self._scored[instrument_id] = row
        self._counts["scored"] += 1
        self._on_window(instrument_id, row, window)
        claims = {champion.version: claim}
        for name, challenger in self._challengers.items():
            said = self._ask(challenger, window)
            if said is not None:
                claims[name] = said
        self._pending[instrument_id].append(_Pending(row, window.as_of_ns, window.as_of_sequence, champion.version, claims))

    def _tape(self, instrument_id: str) -> Tape:
        tape = self._tapes.get(instrument_id)
        if tape is None:
            if len(self._tapes) >= MAX_INSTRUMENTS:
                self._forget(next(iter(self._tapes)))
            tape = self._tapes[instrument_id] = Tape()
        self._pending.setdefault(instrument_id, deque())
        return tape

    def _forget(self, instrument_id: str) -> None:
        del self._tapes[instrument_id]
        for one in self._pending.pop(instrument_id, ()):
            self._miss(instrument_id, one)
        self._scored.pop(instrument_id, None)

    def _ask(self, challenger: Predictor, window: Window) -> Claim | None:
        try:
            said = _claim(challenger.predict(window))
        # A challenger's fault must cost its trial a window, not the service its life.
        except Exception:
            self._counts["faults"] += 1
            log.exception("challenger %s could not answer", challenger.version)
            return None
        if not said.is_sound():
            self._counts["faults"] += 1
            return None
        return said

    def _label(self, instrument_id: str, tape: Tape, horizon_rows: int) -> None:
        """Score the pending windows of an instrument whose horizon is over; they wait in order."""
        pending = self._pending[instrument_id]
        while pending and (pending[0].row + horizon_rows <= tape.last or pending[0].row < tape.first):
            one = pending.popleft()
            move = tape.label(one.row, horizon_rows)
            if move is None and one.row < tape.first:
                self._miss(instrument_id, one)
            else:
                self._judge(instrument_id, one, move)

    def _miss(self, instrument_id: str, one: _Pending) -> None:
        """Keep a window that no later one overlapped: recorded rows may tell what came after it."""
        if len(self._missed) >= MAX_MISSED:
            self._missed.popleft()
            self._counts["unlabelled"] += 1
        self._missed.append((instrument_id, one))

    def label_from(self, rows: Mapping[str, Rows]) -> None:
        """Label what was missed from recorded rows, by instrument; what they do not have yet goes on waiting."""
        champion, missed = self._champion, tuple(self._missed)
        self._missed.clear()
        ends = {name: RowLabels(found, champion.horizon_rows) for name, found in rows.items()} if champion else {}
        for instrument_id, one in missed:
            known = ends.get(instrument_id)
            if known is None or known.is_ahead(one.ts_event):
                self._missed.append((instrument_id, one))
            else:
                self._judge(instrument_id, one, known.move(one.ts_event, one.sequence))
        self._deliver()

    def _judge(self, instrument_id: str, pending: _Pending, move: Move | None) -> None:
        self._counts["unlabelled" if move is None else "labelled"] += 1
        if move is None:
            return
        said = pending.claims[pending.champion]
        self._on_label(instrument_id, pending.row, said, move)
        for trial in tuple(self._trials.values()):
            answer = pending.claims.get(trial.challenger)
            if answer is None or trial.champion != pending.champion:
                continue
            closed = trial.add(instrument_id, pending.row, champion=said, challenger=answer, move=move)
            if closed and (outcome := trial.outcome(self._rules)) is not Outcome.UNDECIDED:
                self._end(trial, outcome)

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        verdict = Verdict(
            champion=trial.champion,
            challenger=trial.challenger,
            outcome=outcome,
            reason=words(trial, outcome),
            evidence=trial.facts(),
        )
        self._verdicts.append((verdict, self._challengers[trial.challenger]))
        self.drop(trial.challenger)


class Watched:
    """A predictor whose answers are offered to the lane."""

    def __init__(self, predictor: Predictor, lane: ShadowLane) -> None:
        self._predictor = predictor
        self._lane = lane
        self.version = predictor.version
        self.window_rows = predictor.window_rows
        self.horizon_rows = predictor.horizon_rows
        self.is_calibrated = predictor.is_calibrated

    def predict(self, window: Window) -> Scored:
        """Predict, and let the lane have the window."""
        scores = self._predictor.predict(window)
        self._lane.offer(window, scores, self.version)
        return scores


def _claim(scores: Scored) -> Claim:
    return Claim(float(scores.p_down), float(scores.p_flat), float(scores.p_up))


def trials_to_bytes(trials: Iterable[Trial]) -> bytes:
    """Write trials down."""
    return msgspec.json.encode(tuple(trials))


def trials_from_bytes(content: bytes) -> tuple[Trial, ...]:
    """Read what `trials_to_bytes` wrote; nothing from what is no such thing: a trial begins anew then."""
    try:
        return msgspec.json.decode(content, type=tuple[Trial, ...])
    except msgspec.DecodeError:
        return ()
