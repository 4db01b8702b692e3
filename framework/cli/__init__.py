"""The command line: one module per group of verbs, `door` for everything that surrounds them."""

from __future__ import annotations

import sys
from typing import NoReturn

from framework.cli.door import enter, load
from framework.operations.options import StartOptions, Summary


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    sys.exit(enter(sys.argv[1:], _run_framework))


def _run_framework(options: StartOptions) -> Summary:
    """Start trading; what that needs is loaded only now."""
    found: Summary = load("framework.app:run_framework")(options)
    return found
