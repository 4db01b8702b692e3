"""What goes wrong, by seed, and when it is mended."""

from __future__ import annotations

from collections.abc import Callable

from framework.errors import TidebookError
from framework.messages import BookInvalid, StrategyQuarantined
from framework.model import NS_PER_S, OrderStatus, TradingState
from framework.trading.risk import Tightening
from tests.faults.core import STRATEGIES, Core
from tests.faults.workload import Workload


class Nemesis:
    """Strike as the core's mix says. What the line does to single requests and reports is the line's own."""

    def __init__(self, core: Core, workload: Workload) -> None:
        self._core = core
        self._workload = workload
        self._mends: list[tuple[int, Callable[[], None]]] = []
        self.on_quarantine: Callable[[str, set[str]], None] = lambda _strategy, _lost: None
        """Called with the exits that a quarantine took."""

    def mend(self) -> None:
        """End what has lasted long enough."""
        now_ns = self._core.clock.now_ns()
        for mend in [one for one in self._mends if one[0] <= now_ns]:
            self._mends.remove(mend)
            mend[1]()

    def strike(self) -> None:
        """Draw each fault."""
        for share, name, act in (
            (self._core.mix.disconnect, "disconnect", self._disconnect),
            (self._core.mix.crash, "crash", self._core.die),
            (self._core.mix.halt, "halt", self._halt),
            (self._core.mix.bad_disk, "bad disk", self._break_disk),
            (self._core.mix.bad_book, "bad book", self._spoil_book),
            (self._core.mix.tighten, "limit tightened", self._tighten),
        ):
            if self._core.rng.random() < share:
                self._core.line.fired[name] += 1
                act()
        # Drawn only where it is in the mix: the seeds of the others stay the runs that they were.
        if self._core.mix.quarantine and self._core.rng.random() < self._core.mix.quarantine:
            self._core.line.fired["strategy quarantined"] += 1
            self._quarantine(self._core.rng.choice(STRATEGIES))
        if self._core.mix.cash and self._core.execution.state is TradingState.REDUCE_ONLY:
            self._soon(lambda: self._core.operator(lambda: self._core.execution.set_state(TradingState.ACTIVE, "a test resumed")))

    def _soon(self, act: Callable[[], None], *, most_s: float = 5.0) -> None:
        self._mends.append((self._core.clock.now_ns() + round(self._core.rng.uniform(0.1, most_s) * NS_PER_S), act))

    def _disconnect(self) -> None:
        self._core.line.is_up = False
        self._soon(lambda: setattr(self._core.line, "is_up", True))

    def _halt(self) -> None:
        self._core.operator(lambda: self._core.execution.set_state(TradingState.HALTED, "a test asked"))
        if self._core.rng.random() < 0.5:
            self._core.operator(lambda: self._core.execution.flatten("a test asked"))
        self._soon(lambda: self._core.operator(lambda: self._core.execution.set_state(TradingState.ACTIVE, "a test resumed")))

    def _quarantine(self, strategy_id: str) -> None:
        """Let a strategy raise; it goes on trading all the same, as one that is deployed again."""
        execution = self._core.execution
        exits = {one.intent.client_order_id for one in execution.mine(strategy_id) if execution.blotter.protects(one)}
        canceled = {name for name in exits if execution.blotter.open[name].status is OrderStatus.PENDING_CANCEL}
        self._core.bus.publish(StrategyQuarantined(strategy_id=strategy_id, ts_event=self._core.clock.now_ns(), reason="raised"))
        self._core.bus.drain()
        left = {one.client_order_id for one in execution.open_orders(strategy_id) if one.status is not OrderStatus.PENDING_CANCEL}
        if self._core.mix.on_quarantine == "keep_exits" and execution.state is not TradingState.HALTED:
            self.on_quarantine(strategy_id, exits - canceled - left)

    def _break_disk(self) -> None:
        self._core.disk.break_after(self._core.rng.randint(0, 3))
        self._soon(self._core.die)

    def _spoil_book(self) -> None:
        name = self._core.rng.choice(tuple(self._core.mids))
        self._core.bad_books.add(name)
        self._core.bus.publish(BookInvalid(instrument_id=name, ts_event=self._core.clock.now_ns(), reason="crossed"))
        self._core.bus.drain()
        self._soon(lambda: self._workload.recover_book(name))

    def _tighten(self) -> None:
        change = Tightening(scope="strategies", key="max_position", value=str(self._core.rng.randint(6, 11)))
        try:
            self._core.operator(lambda: self._core.execution.tighten(change))
        except TidebookError:
            return  # not tighter than it is: refused
