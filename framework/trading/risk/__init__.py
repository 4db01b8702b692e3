"""The gate: limits, what it looks at, its checks in order, and what it remembers."""

from __future__ import annotations

from framework.trading.risk.gate import RiskGate
from framework.trading.risk.limits import LimitBook, Tightening, limits_digest
from framework.trading.risk.verdict import LARGEST, Approved, Denied, Verdict, is_whole
from framework.trading.risk.view import RiskView, Tick

__all__ = [
    "LARGEST",
    "Approved",
    "Denied",
    "LimitBook",
    "RiskGate",
    "RiskView",
    "Tick",
    "Tightening",
    "Verdict",
    "is_whole",
    "limits_digest",
]
