"""The live terminal view: a snapshot goes in about four times a second, a process of its own draws it.

Drawing takes milliseconds and a terminal may stand still (Ctrl-S), so it happens in a child: the trading loop only writes a
frame into a pipe that never blocks. A view that is slow loses frames; one that dies costs the run nothing.
"""

from framework.operations.dashboard.feeder import Dashboard, can_show
from framework.operations.dashboard.snapshot import DashboardSnapshot, Ladder
from framework.operations.dashboard.view import render

__all__ = ["Dashboard", "DashboardSnapshot", "Ladder", "can_show", "render"]
