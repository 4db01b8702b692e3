"""What users subclass and what runs it: `Strategy`, `MLStrategy`, `StrategyActor`, `load_strategy`."""

from framework.inference.analyzer import NotDue, Requested
from framework.strategy.actor import StrategyActor, overrides
from framework.strategy.base import Strategy
from framework.strategy.context import IdSequence, Recovered, StrategyContext
from framework.strategy.loading import load_strategy, load_strategy_class, read_parameters
from framework.strategy.ml import MLStrategy

__all__ = [
    "IdSequence",
    "MLStrategy",
    "NotDue",
    "Recovered",
    "Requested",
    "Strategy",
    "StrategyActor",
    "StrategyContext",
    "load_strategy",
    "load_strategy_class",
    "overrides",
    "read_parameters",
]
