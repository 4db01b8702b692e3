"""Verbs around the gate: its limits, and an operator's word for an order that is UNKNOWN."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.errors import ConfigError
from framework.logs import foreign
from framework.operations import control
from framework.operations.commands import LimitInForce

ACTIONS: Final = ("show", "tighten")
LimitsArgument = Annotated[str, typer.Argument(metavar="[show|tighten]", help="What to do; default show.")]
KeyArgument = Annotated[str | None, typer.Argument(metavar="[KEY]", help="The limit, as in the configuration.")]
ValueArgument = Annotated[str | None, typer.Argument(metavar="[VALUE]", help="Its new value, tighter than now.")]
ScopeOption = Annotated[str, typer.Option("--scope", metavar="S", help="strategies, strategy:NAME, instrument:ID or account.")]
OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="The client order id, as status shows it.")]
FilledOption = Annotated[int, typer.Option("--filled", metavar="LOTS", help="How many lots of what was open have filled; default 0.")]
PriceOption = Annotated[str, typer.Option("--price", metavar="P", help="At which price they filled.")]
SureOption = Annotated[bool, typer.Option("--confirm", help="Yes, I know it from the venue.")]


def limits(
    *,
    action: LimitsArgument = "show",
    key: KeyArgument = None,
    value: ValueArgument = None,
    scope: ScopeOption = "strategies",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Show the limits of the gate, or make one tighter now; only a restart with other settings loosens one."""
    if action not in ACTIONS:
        raise ConfigError(f"limits: found {foreign(action, 60)}; allowed {', '.join(ACTIONS)}")
    if action == "tighten":
        if key is None or value is None:
            raise ConfigError("limits tighten: found no key and value; allowed for example: limits tighten max_position 5")
        answer = control.ask(state_dir, control.TightenLimit(scope=scope, key=key, value=value), timeout_s=control.QUICK_TIMEOUT_S)
        found: tuple[LimitInForce, ...] = (msgspec.convert(answer, LimitInForce),)
    else:
        answer = control.ask(state_dir, control.GetLimits(), timeout_s=control.QUICK_TIMEOUT_S)
        found = msgspec.convert(answer, tuple[LimitInForce, ...])
    if is_json:
        say_json(found)
    else:
        say(_table(found))
    return 0


def resolve_order(
    order: OrderArgument,
    *,
    filled: FilledOption = 0,
    price: PriceOption = "",
    is_confirmed: SureOption = False,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """End an UNKNOWN order on your word: what filled, and nothing more. Look it up at the venue first. Needs --confirm."""
    command = control.ResolveOrder(client_order_id=order, quantity=filled, price=price, confirm=is_confirmed)
    answer = control.ask(state_dir, command, timeout_s=control.QUICK_TIMEOUT_S)
    if is_json:
        say_json(answer)
    else:
        say(f"resolved {foreign(order, 80)}")
    return 0


def _table(found: tuple[LimitInForce, ...]) -> Table:
    table = Table(title="Limits", title_justify="left")
    for name in ("scope", "limit", "value"):
        table.add_column(name, overflow="fold")
    for one in found:
        if one.value not in ("0", "0.0"):
            table.add_row(foreign(one.scope, 80), one.key, one.value)
    return table
