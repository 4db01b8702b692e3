"""Strategies that are compiled: `CompiledStrategy`, and what its function is handed. What it may call is in `verbs`."""

from framework.strategy.compiled.base import CompiledStrategy
from framework.strategy.compiled.views import BOOK, BUY, DAY, FOK, GTC, IOC, ORDER, SELL, STATUS, TRADE, Market, Orders

__all__ = ["BOOK", "BUY", "DAY", "FOK", "GTC", "IOC", "ORDER", "SELL", "STATUS", "TRADE", "CompiledStrategy", "Market", "Orders"]
