"""Verbs for the operator of a running framework; halt and resume also work on the journal of one that does not run."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError, StorageError
from framework.logs import foreign
from framework.model import TradingState
from framework.operations import control, offline
from framework.operations.state_dir import StateDir
from framework.operations.status import Status, status_view

STOP_TIMEOUT_S: Final = 60.0
MODEL_ACTIONS: Final = ("list", "promote", "rollback")
MODEL_FACTS: Final = ("horizon_rows", "reason", "promote_reason")

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]
ConfirmOption = Annotated[bool, typer.Option("--confirm", help="Yes, trade again.")]
ActionArgument = Annotated[str, typer.Argument(metavar="[list|promote|rollback]", help="What to do; default list.")]
VersionArgument = Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The version to promote.")]


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


def halt(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, reason: ReasonOption = "operator", is_json: JsonOption = False) -> int:
    """Set the kill switch: cancel every order and send none, also after a restart, until `resume --confirm`."""
    reason = foreign(reason)
    try:
        control.ask(state_dir, control.Halt(reason=reason), timeout_s=control.QUICK_TIMEOUT_S)
    except control.NobodyThere:
        offline.set_trading_state(state_dir, TradingState.HALTED, reason, wall_time_ns())
    return _say_state(TradingState.HALTED, is_json=is_json)


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
    try:
        control.ask(state_dir, control.Resume(confirm=True), timeout_s=control.QUICK_TIMEOUT_S)
    except control.NobodyThere:
        offline.set_trading_state(state_dir, TradingState.ACTIVE, foreign(reason), wall_time_ns())
    return _say_state(TradingState.ACTIVE, is_json=is_json)


def train(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, reason: ReasonOption = "operator", is_json: JsonOption = False) -> int:
    """Start a training in the ML process now; predictions go on meanwhile."""
    result = control.ask(state_dir, control.Train(reason=foreign(reason)))
    if is_json:
        say_json(result)
    else:
        say("training started; watch it with: main.py status")
    return 0


def models(
    *,
    action: ActionArgument = "list",
    version: VersionArgument = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """List the model versions, promote one, or roll back to the champion before."""
    _check_action(action, version)
    result = control.ask(state_dir, control.Models(action=action, version_id=version))
    if is_json:
        say_json(result)
    else:
        say(_models_table(result))
    return 0


def _check_action(action: str, version: str | None) -> None:
    if action not in MODEL_ACTIONS:
        raise ConfigError(f"models: found {foreign(action, 60)}; allowed {', '.join(MODEL_ACTIONS)}")
    if action == "promote" and version is None:
        raise ConfigError("models promote: found no version; allowed one that `models list` shows")
    if action != "promote" and version is not None:
        raise ConfigError(f"models {action}: found the version {foreign(version, 60)}; allowed none")


def _models_table(result: Any) -> RenderableType:
    """Return the versions, newest first; the champion is marked. `--json` has every fact that the service gives."""
    versions = [dict(version) for version in result.get("versions", ())]
    if not versions:
        return Text("no model version yet; train one with: main.py train")
    table = Table(title="Models", title_justify="left")
    for name in ("version", "", "rows ahead", "trained because", "verdict"):
        table.add_column(name, overflow="fold")
    for version in versions:
        name = str(version.get("version", ""))
        mark = "champion" if result.get("champion") == name else ""
        table.add_row(foreign(name, 40), mark, *(Text(foreign(str(version.get(fact, "")), 200)) for fact in MODEL_FACTS))
    return table


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
