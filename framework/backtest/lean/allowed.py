"""What a lean backtest can do: looked at before anything runs."""

from __future__ import annotations

from framework.backtest.engine import OFF, Plan
from framework.backtest.lean.gate import unchecked
from framework.errors import ConfigError
from framework.strategy import MLStrategy, overrides


def check_lean(plan: Plan) -> None:
    """Raise `ConfigError` for what a lean backtest cannot do, with the way out."""
    cls, paper = plan.deployment.strategy_class, plan.settings.paper
    if issubclass(cls, MLStrategy) or plan.ml != OFF:
        raise ConfigError(f"--lean: {cls.__name__} asks for predictions, or --ml for some, and a lean backtest has none; leave --lean out")
    if plan.keep is not None:
        raise ConfigError("--lean: a lean backtest has no journal that --keep could keep; leave --lean out")
    if overrides(cls, "on_bar"):
        raise ConfigError(f"--lean: {cls.__name__} listens to bars, and a lean backtest builds none; leave --lean out")
    if paper.queue_model == "fifo" or paper.feed_latency_ms:
        raise ConfigError("--lean: paper.queue_model fifo and paper.feed_latency_ms need the whole backtest; leave --lean out")
    if paper.cash:
        raise ConfigError("--lean: paper.cash is set, and a lean backtest asks for no margin; leave --lean out")
    if missing := unchecked(plan.settings.risk):
        raise ConfigError(f"--lean: {', '.join(missing)} is set, and a lean backtest does not check it; leave --lean out")
