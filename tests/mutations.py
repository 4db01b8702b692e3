"""Plant bugs in the order path, one by one, in a copy of the tree, and see that a test catches each.

    python -m tests.mutations                  # all of them, a few minutes
    python -m tests.mutations --only 0 7 12    # some
    python -m tests.mutations --list

Prints which test caught which bug; the exit code is 1 if one got away, or no longer fits the source.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
COPIED: Final = ("framework", "strategies", "ml_actor", "tests", "config", "main.py", "pyproject.toml")
T: Final = "framework/trading/"


class Bug(NamedTuple):
    """A change of one place in one file, and the tests that are asked."""

    name: str
    path: str
    old: str
    new: str
    tests: str


GATE, LIMITS, WATCH, EXECUTION, JOURNAL, FAULTS, ORDERS = (
    "tests/trading/test_risk.py",
    "tests/trading/test_gate_limits.py",
    "tests/trading/test_watch.py",
    "tests/trading/test_execution.py",
    "tests/trading/test_journal.py",
    "tests/faults/test_faults.py",
    "tests/trading/test_orders.py",
)
ASKED, MARGINS = "tests/trading/test_questions.py", "tests/venues/test_margin.py"
QUESTIONS, MARGIN, LIMITS_FILE = f"{T}questions.py", "framework/venues/margin.py", f"{T}risk/limits.py"
AMOUNTS, CASE, SOUNDNESS = f"{T}risk/amounts.py", f"{T}risk/case.py", f"{T}risk/soundness.py"
BUGS: Final = (
    Bug("the kill switch is not read", SOUNDNESS, "if case.view.is_killed():", "if False:", LIMITS),
    Bug("a halt lets orders through", SOUNDNESS, "if case.view.state is TradingState.HALTED else None", "if False else None", GATE),
    Bug("orders go before reconciliation", SOUNDNESS, "return case.view.why_not_ready() or None", "return None", LIMITS),
    Bug("orders go while the journal is broken", SOUNDNESS, "None if case.view.is_journal_healthy() else", "None if True else", GATE),
    Bug("used ids are used again", SOUNDNESS, "if case.view.is_known_order(name) else None", "if False else None", GATE),
    Bug("quantities that are no whole numbers pass", SOUNDNESS, "is_whole(lots) and 1 <= lots <= most", "1 <= lots <= most", GATE),
    Bug("an order of one lot too many passes", SOUNDNESS, "1 <= lots <= most", "1 <= lots <= most + 1", GATE),
    Bug(
        "an old book will do",
        SOUNDNESS,
        'return None if age_s <= most_s else f"age_s={age_s:.3f} limit={most_s:g}"\n\n\ndef collar',
        "return None\n\n\ndef collar",
        GATE,
    ),
    Bug(
        "the collar is a tick too wide",
        SOUNDNESS,
        'return None if distance <= most else f"distance_ticks={distance:g}',
        'return None if distance <= most + 1 else f"distance_ticks={distance:g}',
        GATE,
    ),
    Bug(
        "open orders do not count towards the position",
        AMOUNTS,
        "worst = lots + order.side.sign * (waiting + order.quantity)",
        "worst = lots + order.side.sign * order.quantity",
        GATE,
    ),
    Bug(
        "the account's position is not asked",
        AMOUNTS,
        'for scope, most in case.bound.get("max_position", ()):\n',
        'for scope, most in case.bound.get("max_position", ())[:1]:\n',
        LIMITS,
    ),
    Bug(
        "a loss exactly at its limit passes",
        AMOUNTS,
        "return not amount.is_nan() and amount < most",
        "return not amount.is_nan() and amount <= most",
        LIMITS,
    ),
    Bug(
        "a loss that is no number passes",
        AMOUNTS,
        "return not amount.is_nan() and amount < most",
        "return amount.is_nan() or amount < most",
        LIMITS,
    ),
    Bug(
        "the way out is closed too",
        AMOUNTS,
        "if not case.is_reducing and not _is_below(lost := -case",
        "if not _is_below(lost := -case",
        LIMITS,
    ),
    Bug("a duplicate passes", SOUNDNESS, "    if twin is None:\n        return None", "    return None", LIMITS),
    Bug("own orders may meet", SOUNDNESS, "return None if is_clear else", "return None if True else", LIMITS),
    Bug("reduce-only may turn the position", CASE, "order.quantity <= abs(position)", "order.quantity <= abs(position) + 1", GATE),
    Bug("an old prediction will do", SOUNDNESS, "age_s = (case.now_ns - as_of_ns) / NS_PER_S", "age_s = 0.0", LIMITS),
    Bug("limits can be loosened", f"{T}risk/limits.py", "return not before or value < before", "return True", LIMITS),
    Bug(
        "a strategy can have looser limits than all",
        f"{T}risk/limits.py",
        "limits[key] = min(value, limits.get(key, 0) or value)",
        "limits[key] = max(value, limits.get(key, 0) or value)",
        LIMITS,
    ),
    Bug(
        "the window of a rate never forgets",
        f"{T}risk/windows.py",
        "while entries and now_ns - entries[0][0] >= self.span_ns:",
        "while False:",
        GATE,
    ),
    Bug(
        "the intent is recorded after the order left",
        f"{T}outgoing.py",
        "if isinstance(verdict, Approved) and not self.record(verdict.order, key=order.client_order_id):",
        "if isinstance(verdict, Approved) and not self.record(verdict.order, durable=False, key=order.client_order_id):",
        FAULTS,
    ),
    Bug("a journal that fails stops nothing", f"{T}store.py", "        self.is_healthy = False\n        try:", "        try:", JOURNAL),
    Bug(
        "a report is applied and not recorded",
        f"{T}outgoing.py",
        "        self.record(report, key=report.client_order_id)\n        effect",
        "        effect",
        EXECUTION,
    ),
    Bug(
        "UNKNOWN orders count for nothing",
        f"{T}exposure.py",
        "if order.is_open:",
        "if order.is_open and order.status is not OrderStatus.UNKNOWN:",
        WATCH,
    ),
    Bug(
        "silence rejects the order",
        f"{T}watch.py",
        "kind=ReportKind.LOST, ts_event=now_ns, reason=reason",
        "kind=ReportKind.REJECTED, ts_event=now_ns, reason=reason",
        WATCH,
    ),
    Bug(
        "a halt cancels once and hopes",
        f"{T}watch.py",
        "        if self._blotter.state is TradingState.HALTED:\n            for order",
        "        if False:\n            for order",
        WATCH,
    ),
    Bug(
        "a halt cancels nothing",
        f"{T}execution.py",
        "        if state is TradingState.HALTED:\n            self.cancel_all()",
        "        if False:\n            self.cancel_all()",
        WATCH,
    ),
    Bug(
        "flattening sends a second order beside the first",
        f"{T}watch.py",
        "if (strategy_id, instrument_id) not in busy:",
        "if True:",
        WATCH,
    ),
    Bug("a lost report is never asked for", f"{T}watch.py", "        self._sweep(now_ns)\n", "", WATCH),
    Bug("an end is believed before its fills", f"{T}blotter.py", "if missing <= 0 or report.kind", "if True or report.kind", WATCH),
    Bug(
        "a fill counts twice",
        f"{T}orders.py",
        "if report.trade_id and report.trade_id in self.trade_ids:",
        "if False:",
        ORDERS,
    ),
    Bug(
        "a fill beyond the order is booked",
        f"{T}orders.py",
        "if not _is_bookable(report) or self.filled_quantity + report.last_quantity > self._most:",
        "if not _is_bookable(report):",
        EXECUTION,
    ),
    Bug("fees are forgotten", f"{T}portfolio.py", "self.fees = _EXACT.add(self.fees, fee)", "pass", EXECUTION),
    Bug(
        "losing streaks do not outlive a restart",
        f"{T}fold.py",
        "blotter.losses.restore(facts.losses, facts.fills, facts.marks)",
        "pass",
        WATCH,
    ),
    Bug("rates do not outlive a restart", f"{T}recovering.py", "for order in facts.sent:", "for order in ():", WATCH),
    Bug(
        "tightened limits do not outlive a restart",
        f"{T}recovering.py",
        "            for change in facts.tightened:",
        "            for change in ():",
        WATCH,
    ),
    Bug("the chain is not checked", f"{T}journal.py", "if seq != expected or chain != stored:", "if seq != expected:", JOURNAL),
    Bug("a snapshot is believed unseen", f"{T}journal.py", "            if self._is_sound(snapshot):\n", "            if True:\n", WATCH),
    Bug(
        "a state that differs makes a snapshot all the same",
        f"{T}snapshots.py",
        "        self.divergence = self.differences()",
        '        self.divergence = ""',
        WATCH,
    ),
    Bug("what is said again is journalled again", f"{T}blotter.py", "return order.knows(report)", "return False", WATCH),
    Bug(
        "an old acknowledgement undoes a change",
        f"{T}orders.py",
        "return report.kind in _SAID_AGAIN and 0 <",
        "return False and 0 <",
        ORDERS,
    ),
    Bug("a cancel is asked for twice", f"{T}outgoing.py", "if self.is_canceling(order):", "if False:", EXECUTION),
    Bug(
        "resting reduce-only orders are left alone",
        f"{T}contingent.py",
        "in self._reducing.excess(instrument_id):",
        "in ():",
        "tests/trading/test_contingent.py",
    ),
    Bug(
        "a stop that is set off takes more than the position",
        f"{T}contingent.py",
        "if 0 < left < order.quantity:",
        "if False:",
        "tests/trading/test_contingent.py",
    ),
    Bug(
        "the venue does not clip at the match",
        "framework/venues/open_orders.py",
        "                self._fits(other)\n",
        "                pass\n",
        "tests/venues/test_reduce_only.py",
    ),
    Bug("a trade of others credits nobody", f"{T}adopting.py", "strategy_id=EXTERNAL,", 'strategy_id="s",', WATCH),
    Bug(
        "the kill switch is not read again once the intent is written",
        f"{T}outgoing.py",
        "if is_by_operator or not self._sight.is_killed():",
        "if True:",
        "tests/faults/test_halts.py::test_an_order_whose_intent_was_being_written_when_the_kill_switch_was_set_ends_here",
    ),
    Bug(
        "an order comes back from the journal without its changes",
        f"{T}blotter.py",
        "case ReplaceOrder() as change if order is not None and order.status in REPLACEABLE:",
        "case ReplaceOrder() as change if False:",
        "tests/faults/test_found.py",
    ),
    Bug(
        "a word from before a change ends it",
        f"{T}orders.py",
        "return change is None or report.revision >= change.revision or report.ts_event >= change.ts_event",
        "return True",
        "tests/faults/test_found.py",
    ),
    Bug(
        "the watch oversleeps an answer that is overdue",
        f"{T}watch.py",
        "due_ns = self._next_sweep_ns if asked_ns is None else min(self._next_sweep_ns, asked_ns + self._timeout_ns)",
        "due_ns = self._next_sweep_ns",
        WATCH,
    ),
    Bug(
        "a change under way is told with the time of the report before",
        f"{T}orders.py",
        "        self.ts_event = max(self.ts_event, change.ts_event)\n",
        "",
        EXECUTION,
    ),
    Bug(
        "a limit that is set is not bound",
        LIMITS_FILE,
        "            if most:  # NaN too",
        "            if most and scope.strategy_id:  # NaN too",
        LIMITS,
    ),
    Bug(
        "profits are not worked out again when a price has moved",
        f"{T}losses.py",
        "            self._moves += 1\n",
        "",
        LIMITS + " " + WATCH,
    ),
    Bug(
        "an id of the run before passes for a new one",
        f"{T}known_ids.py",
        "if number > self._highest.get(kind, 0):\n                return",
        "if True:\n                return",
        "tests/trading/test_known_ids.py",
    ),
    Bug("an old answer counts", QUESTIONS, "if answer.question < self._since.get(name, 0):", "if False:", ASKED),
    Bug(
        "a change makes no answer old",
        f"{T}outgoing.py",
        "            self.questions.note(name)\n            self._venue.replace",
        "            self._venue.replace",
        ASKED,
    ),
    Bug("a question of the run before counts", f"{T}recovering.py", "            self._out.questions.note(name)\n", "", ASKED),
    Bug("a fill in an old answer is lost", QUESTIONS, "if answer.kind is ReportKind.FILLED:", "if False:", ASKED),
    Bug(
        "every word of an answer is taken for the newest",
        QUESTIONS,
        "if answer.kind is ReportKind.RESTATED else None",
        "if True else None",
        ASKED,
    ),
    Bug("an order beyond the margin is taken", MARGIN, 'return "" if needed <= equity else', 'return "" if True else', MARGINS),
    Bug("the way out needs margin", MARGIN, "if wanted <= before:", "if False:", MARGINS),
    Bug(
        "open orders need no margin",
        MARGIN,
        "            if order.intent.instrument_id == instrument_id:\n                waiting",
        "            if False:\n                waiting",
        MARGINS,
    ),
    Bug(
        "an open loss is no loss to the venue",
        MARGIN,
        "return position.net_realized + (position",
        "return position.net_realized + 0 * (position",
        MARGINS,
    ),
    Bug(
        "a margin call cancels the way out", "framework/venues/open_orders.py", "and not self.margin.reduces(order):", "and True:", MARGINS
    ),
    Bug(
        "a margin call changes nothing here",
        f"{T}execution.py",
        "if not called.is_over and self.state is TradingState.ACTIVE:",
        "if False:",
        MARGINS,
    ),
    Bug(
        "a restart makes the venue forget what was lost",
        f"{T}recovering.py",
        "self._venue.restore(tuple(resting(order) for order in wanted if order.is_acknowledged), positions, booked)",
        "self._venue.restore(tuple(resting(order) for order in wanted if order.is_acknowledged), positions)",
        MARGINS,
    ),
    Bug(
        "a quarantine takes the exits",
        f"{T}execution.py",
        'if wanted == "keep_exits" and self.state',
        'if wanted == "nothing" and self.state',
        "tests/trading/test_quarantine.py",
    ),
    Bug(
        "a quarantine closes everybody's positions",
        f"{T}watch.py",
        "return self._flattened is None or strategy_id in self._flattened",
        "return True",
        "tests/trading/test_quarantine.py",
    ),
    Bug(
        "a venue elsewhere is asked to cancel once",
        "framework/operations/venue_halt.py",
        "        if not left:\n            break\n        seen",
        "        if seen:\n            break\n        seen",
        "tests/operations/test_kills.py",
    ),
    Bug(
        "the kill process does not look at the switch",
        "framework/operations/kill_process.py",
        "            if self._is_set():",
        "            if False:",
        "tests/faults/test_elsewhere.py",
    ),
    Bug(
        "a closing order is not written down before it leaves",
        "framework/operations/venue_halt.py",
        '    journal.append("SubmitOrder", order, durable=True, key=order.client_order_id)\n',
        "",
        "tests/faults/test_elsewhere.py",
    ),
)


def plant(bug: Bug, tree: Path) -> str:
    """Plant a bug in a tree and return the text before. Raises `ValueError` if the source has moved on."""
    path = tree / bug.path
    before = path.read_text()
    if before.count(bug.old) != 1:
        raise ValueError(f"{bug.path} has {before.count(bug.old)} places like this; rewrite the bug")
    path.write_text(before.replace(bug.old, bug.new))
    return before


def catch(bug: Bug, tree: Path) -> str:
    """Run the tests on a tree with the bug; return which one caught it, or nothing."""
    before = plant(bug, tree)
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *bug.tests.split()]
        ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=600)
    finally:
        (tree / bug.path).write_text(before)
    found = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return found[0].split(" ")[1].partition("::")[2] if found else ""


def run(numbers: list[int]) -> int:
    """Plant the bugs of these numbers; return how many got away."""
    escaped = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy(source, tree / name)
        for number in numbers:
            bug = BUGS[number]
            try:
                caught = catch(bug, tree)
            except ValueError as exc:
                caught = ""
                print(exc, file=sys.stderr)
            escaped += not caught
            print(f"| {number} | {bug.name} | `{Path(bug.path).name}` | {f'`{caught}`' if caught else '**got away**'} |", flush=True)
    return escaped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", choices=range(len(BUGS)), metavar="N", help="only these bugs")
    parser.add_argument("--list", action="store_true", help="name the bugs and stop")
    options = parser.parse_args()
    if options.list:
        for number, bug in enumerate(BUGS):
            print(number, bug.name)
        return 0
    print("| no. | planted bug | in | caught by |\n|---:|---|---|---|", flush=True)
    escaped = run(options.only or list(range(len(BUGS))))
    print(f"\n{escaped} got away")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
