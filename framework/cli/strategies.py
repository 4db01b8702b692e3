"""Verbs about deployments: into the running process, or into the journal for the next start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.logs import foreign
from framework.operations import control, offline
from framework.operations.deployments import CHANGED, NEW, Plan, read_deployment
from framework.operations.status import StrategyStatus, strategies_view
from framework.strict_yaml import read_text

StrategyFileOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The strategy's file.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check and say what would change; change nothing.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name.")]


def deploy_strategy(
    *,
    config: StrategyFileOption,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_dry_run: DryRunOption = False,
    is_json: JsonOption = False,
) -> int:
    """Check a strategy's file in full and deploy it: at once if the framework runs, and with every start from then on."""
    text = read_text(config)
    try:
        plan = control.ask_for(state_dir, control.Deploy(path=str(config), text=text, dry_run=is_dry_run), Plan)
    except control.NobodyThere:
        plan = offline.deploy(state_dir, read_deployment(text, str(config)), wall_time_ns(), is_dry_run=is_dry_run)
    if is_json:
        say_json(plan)
    else:
        say("\n".join(_lines(plan)))
    return 0


def undeploy_strategy(*, name: NameArgument, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """Stop a strategy, cancel its orders and forget its deployment. Its position stays."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name):
        raise ConfigError(f"NAME: found {foreign(name, 80)}; allowed a letter, then at most 63 letters, digits, - and _")
    try:
        control.ask(state_dir, control.Undeploy(name=name))
    except control.NobodyThere:
        offline.undeploy(state_dir, name)
    if is_json:
        say_json({"name": name, "undeployed": True})
    else:
        say(f"{name}: undeployed")
    return 0


def list_strategies(*, state_dir: StateDirOption = DEFAULT_STATE_DIR, is_json: JsonOption = False) -> int:
    """List the deployed strategies and how they are."""
    try:
        found = control.ask_for(state_dir, control.ListStrategies(), tuple[StrategyStatus, ...], timeout_s=control.QUICK_TIMEOUT_S)
    except control.NobodyThere:
        found = offline.strategies(state_dir)
    if is_json:
        say_json(found)
    else:
        say(strategies_view(found))
    return 0


def _lines(plan: Plan) -> list[str]:
    done = "would be deployed" if plan.is_dry_run else "deployed"
    if plan.kind == NEW:
        lines = [f"{plan.name}: new, {done}"]
    elif plan.kind == CHANGED:
        lines = [f"{plan.name}: changed, {done}", *(f"  {change}" for change in plan.changes)]
    else:
        return [f"{plan.name}: unchanged, nothing to do"]
    if plan.is_code_changed:
        lines.append("  the strategy's code is another one" + ("; it is loaded at the next start" if plan.is_running else ""))
    if not plan.is_dry_run:
        lines.append("it runs now" if plan.is_running else "it runs from the next start on: main.py start")
    return lines
