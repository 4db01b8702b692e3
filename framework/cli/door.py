"""The door: from arguments to an exit code. Errors are one line each on stderr, tracebacks only with --debug.

Exit codes: 0 done, 1 a bug, 2 usage or configuration, 3 start refused or nobody there, 4 stopped by the kill switch, 5 storage,
6 integrity, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TextIO, cast

import typer

from framework.cli.options import Entry
from framework.cli.output import complain
from framework.errors import TidebookError
from framework.logs import foreign
from framework.operations.options import StartOptions, Summary

_HELP: Final = "Tidebook: order-flow trading with predictions that never block. --debug, anywhere, shows tracebacks."
USAGE: Final = 2
INTERRUPTED: Final = 130
VERBS: Final = (
    ("start", "run:start", "start --market simulated --speed 10 --duration 600"),
    ("deploy-strategy", "strategies:deploy_strategy", "deploy-strategy --config config/strategies/ml_futures.yaml --dry-run"),
    ("undeploy-strategy", "strategies:undeploy_strategy", "undeploy-strategy ml_futures"),
    ("strategies", "strategies:list_strategies", "strategies --json"),
    ("status", "operate:status", "status --json"),
    ("stop", "operate:stop", "stop"),
    ("halt", "operate:halt", 'halt --reason "the market is closing"'),
    ("resume", "operate:resume", "resume --confirm"),
    ("limits", "risk:limits", "limits tighten max_position 5 --scope strategy:ml_futures"),
    ("resolve-order", "risk:resolve_order", "resolve-order ml_futures-17 --filled 2 --price 4712.25 --confirm"),
    ("train", "operate:train", "train"),
    ("models", "models:models", "models promote v0003-1a2b3c4d"),
    (
        "backtest",
        "backtest:backtest",
        "backtest --config config/strategies/ml_futures.yaml --data day1.parquet --ml off --report backtest.html",
    ),
    ("latency", "backtest:latency", "latency record --state-dir .tidebook --out latency.json"),
    (
        "sweep",
        "sweep:sweep",
        "sweep --config config/strategies/book_imbalance.yaml --data day1.parquet --vary levels=1,3,5 --out sweep.parquet",
    ),
    ("diff", "diff:diff", "diff .tidebook backtest-state --strategy ml_futures"),
    ("twin", "twin:twin", "twin .tidebook --set parameters.entry_threshold=0.4"),
    ("evaluate", "evaluate:evaluate", "evaluate --train day1.parquet day2.parquet --test day3.parquet --report report.html"),
    ("search", "search:search", "search --data day1.parquet day2.parquet --member trees --tries 40 --out trees.json"),
    ("check-leaks", "leaks:check_leaks", "check-leaks --strategy config/strategies/ml_futures.yaml --seeds 20"),
    ("explain", "explain:explain", "explain ml_futures-3"),
    ("ml-service", "run:ml_service", "ml-service --config config/main.yaml"),
    ("create-keys", "run:create_keys", "create-keys --dir keys --client trading"),
    ("doctor", "run:doctor", "doctor --json"),
)
"""Each verb, where it is, and an example. Only the module of the one that is asked for is loaded: `halt` may not wait for polars."""
GROUPS: Final = (("data", "data:build"), ("state", "state:build"))
"""Verbs of verbs."""

LISTS: Final = frozenset({"--market", "--train", "--test", "--data"})
"""Options that take several values: `--market A B`."""

_ClickError: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""The base of usage errors; its module differs between releases of Typer."""


def enter(arguments: Sequence[str], run_framework: Callable[[StartOptions], Summary]) -> int:
    """Run one verb and return the exit code of the process."""
    _prepare_process()
    is_debug = "--debug" in arguments
    wanted = spread_market([argument for argument in arguments if argument != "--debug"])
    try:
        application = build(wanted[0] if wanted else "")
        result = application(args=wanted or ["--help"], prog_name="main.py", standalone_mode=False, obj=Entry(run_framework, is_debug))
        return (result or 0) if wanted else USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit:  # Typer's way to say that nobody reads the help any more
        return 0
    # The last place that can turn a fault into one line and a code: nothing is behind it but the interpreter.
    except Exception as exc:  # noqa: BLE001
        if is_debug:
            traceback.print_exc()
        return _explain(exc)


def build(asked: str = "") -> typer.Typer:
    """Return the application with the verb that is asked for; with all of them if it is none of them."""
    application = typer.Typer(name="tidebook", help=_HELP, add_completion=False, pretty_exceptions_enable=False)
    application.callback(help=_HELP)(_nothing_yet)
    is_known = asked in (name for name, *_ in (*VERBS, *GROUPS))
    for name, place, example in VERBS:
        if name == asked or not is_known:
            application.command(name, epilog=f"Example: python main.py {example}")(load(f"framework.cli.{place}"))
    for name, place in GROUPS:
        if name == asked or not is_known:
            application.add_typer(load(f"framework.cli.{place}")(), name=name)
    return application


def load(place: str) -> Callable[..., Any]:
    """Return the function at `module:name`, and load its module if that has not been done."""
    module, _, name = place.partition(":")
    return cast(Callable[..., Any], getattr(import_module(module), name))


def _nothing_yet() -> None:
    """Stand before the verbs: without it, an application of one verb would have no name for it."""


def spread_market(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--market A B C` written as `--market A --market B --market C`; so too the other `LISTS`."""
    spread: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument.partition("=")[0]
        elif option in LISTS and spread[-1] != option:
            spread.append(option)
        spread.append(argument)
    return spread


def _explain(exc: Exception) -> int:
    """Say what went wrong in one line (or one per problem) and return the exit code."""
    if isinstance(exc, TidebookError):
        complain(str(exc))
        return exc.exit_code
    if isinstance(exc, _ClickError):
        complain(exc.format_message() if hasattr(exc, "format_message") else str(exc))
        return USAGE
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "framework").split(".")[0] not in ("framework", "strategies"):
        complain(f"{exc.name} is not installed in {sys.prefix}; run: pip install -c constraints.txt -e .")
        return 1
    complain(f"unexpected {type(exc).__name__}: {foreign(str(exc), 500)} (run it again with --debug for the traceback)")
    return 1


def _prepare_process() -> None:
    """Let closed streams swallow output instead of failing, and find strategies in the current folder, however we were called."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
