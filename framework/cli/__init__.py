"""The command line: one module per group of verbs, `door` for everything that surrounds them."""

from __future__ import annotations

import sys
from typing import NoReturn

from framework.app import run_framework
from framework.cli.door import enter


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    sys.exit(enter(sys.argv[1:], run_framework))
