"""What a compiled backtest can do: looked at before anything runs, without the compiler."""

from __future__ import annotations

from framework.backtest.engine import OFF, Plan
from framework.backtest.lean.gate import unchecked
from framework.errors import ConfigError
from framework.strategy.compiled import CompiledStrategy

MOST_OPEN = 256
OUT = "leave --compiled out"


def check_compiled(plan: Plan) -> None:
    """Raise `ConfigError` for what a compiled backtest cannot do, with the way out."""
    cls, paper, limits = plan.deployment.strategy_class, plan.settings.paper, plan.settings.risk
    if plan.is_lean:
        raise ConfigError("--compiled and --lean: a backtest runs one way; give one of them")
    if not issubclass(cls, CompiledStrategy):
        raise ConfigError(f"--compiled: {cls.__name__} is no CompiledStrategy (docs/compiled.md); take --lean, or {OUT}")
    if cls.on_event is None or not hasattr(cls.on_event, "py_func"):
        raise ConfigError(f"--compiled: {cls.__name__}.on_event is no compiled function; say on_event = staticmethod(f) of an @njit f")
    if plan.ml != OFF:
        raise ConfigError(f"--compiled: --ml {plan.ml}, but compiled strategies ask for no predictions; say --ml off")
    if plan.keep is not None:
        raise ConfigError(f"--compiled: a compiled backtest has no journal that --keep could keep; {OUT}")
    if paper.queue_model == "fifo" or paper.feed_latency_ms or paper.cash:
        raise ConfigError(f"--compiled: paper.queue_model fifo, paper.feed_latency_ms and paper.cash need the whole backtest; {OUT}")
    if missing := unchecked(limits):
        raise ConfigError(f"--compiled: {', '.join(missing)} is set, and a compiled backtest does not check it; {OUT}")
    if limits.max_open_orders > MOST_OPEN:
        raise ConfigError(f"--compiled: risk.max_open_orders is {limits.max_open_orders}, allowed up to {MOST_OPEN} here; {OUT}")
