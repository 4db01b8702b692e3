"""Verbs for the operator of a running framework; halt and resume also work on the journal of one that does not run."""

from __future__ import annotations

import time
from typing import Annotated, Final, Literal

import typer

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError, StorageError
from framework.logs import foreign
from framework.model import TradingState
from framework.operations import control, kills, offline
from framework.operations.state_dir import StateDir
from framework.operations.status import Status, status_view

STOP_TIMEOUT_S: Final = 60.0

WarmOption = Annotated[
    bool | None, typer.Option("--warm/--full", help="Go on from the champion, or begin from nothing; default: as training.full_every says.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]
FlattenOption = Annotated[bool, typer.Option("--flatten", help="Close every position too.")]
KillAfterOption = Annotated[
    float, typer.Option("--kill-after", metavar="S", min=0.5, max=60.0, help="Kill a process that does not answer for so long, s.")
]
ConfirmOption = Annotated[bool, typer.Option("--confirm", help="Yes, trade again.")]


def status(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """Show how the running framework is; exit 3 if none runs."""
    found = control.ask_for(state_dir, control.GetStatus(), Status, timeout_s=control.QUICK_TIMEOUT_S)
    if is_json:
        say_json(found)
    else:
        say(status_view(found))
    return 0


def stop(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """End the run in order, and wait until it has ended."""
    control.ask(state_dir, control.Stop(), timeout_s=control.QUICK_TIMEOUT_S)
    _wait_until_free(StateDir(state_dir))
    if is_json:
        say_json({"stopped": True})
    else:
        say("stopped")
    return 0


def halt(
    *,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    reason: ReasonOption = "operator",
    is_flattening: FlattenOption = False,
    kill_after: KillAfterOption = kills.KILL_AFTER_S,
    is_json: JsonOption = False,
) -> int:
    """Set the kill switch: cancel every order and send none, also after a restart, until `resume --confirm`. Works while it hangs."""
    halted = kills.halt(state_dir, foreign(reason), is_flattening=is_flattening, kill_after_s=kill_after, now_ns=wall_time_ns())
    if is_json:
        say_json(halted)
    else:
        say(kills.sentence(halted))
    return 0 if halted.is_done else StorageError.exit_code


def resume(
    *,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_confirmed: ConfirmOption = False,
    reason: ReasonOption = "operator",
    is_json: JsonOption = False,
) -> int:
    """Clear the kill switch. Needs --confirm."""
    if not is_confirmed:
        raise ConfigError("resume lets strategies trade again; say so with --confirm")
    kills.clear(state_dir)  # first: a running process would halt again on it
    try:
        control.ask(state_dir, control.Resume(confirm=True), timeout_s=control.QUICK_TIMEOUT_S)
    except control.NobodyThere:
        offline.set_trading_state(state_dir, TradingState.ACTIVE, foreign(reason), wall_time_ns())
    return _say_state(TradingState.ACTIVE, is_json=is_json)


def train(
    *,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_warm: WarmOption = None,
    reason: ReasonOption = "operator",
    is_json: JsonOption = False,
) -> int:
    """Start a training in the ML process now; predictions go on meanwhile."""
    refit: Literal["", "warm", "full"] = "" if is_warm is None else "warm" if is_warm else "full"
    result = control.ask(state_dir, control.Train(reason=foreign(reason), refit=refit))
    if is_json:
        say_json(result)
    else:
        say("training started; watch it with: main.py status")
    return 0


def _say_state(state: TradingState, *, is_json: bool) -> int:
    if is_json:
        say_json({"trading_state": state})
    else:
        say(f"trading is {state}")
    return 0


def _wait_until_free(state: StateDir) -> None:
    end_s = time.monotonic() + STOP_TIMEOUT_S
    while state.is_locked():
        if time.monotonic() > end_s:
            raise StorageError(f"process {state.last_owner()} has not ended within {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
