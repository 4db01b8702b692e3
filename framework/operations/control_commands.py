"""What an operator can command, and what is answered: the words of the control socket."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command"):
    """Base of every command."""


class Ping(Command, frozen=True, kw_only=True, tag="ping"):
    """Ask whether somebody is there; the answer has the pid."""


class GetStatus(Command, frozen=True, kw_only=True, tag="status"):
    """Ask for the status document."""


class ListStrategies(Command, frozen=True, kw_only=True, tag="strategies"):
    """Ask for the deployed strategies and their states."""


class Deploy(Command, frozen=True, kw_only=True, tag="deploy"):
    """Deploy a strategy from the text of its file; `path` is its name in complaints. A dry run only plans."""

    path: str
    text: str
    dry_run: bool = False


class Undeploy(Command, frozen=True, kw_only=True, tag="undeploy"):
    """Stop a strategy, cancel its orders, forget its deployment."""

    name: str


class Stop(Command, frozen=True, kw_only=True, tag="stop"):
    """End the run in order."""


class Halt(Command, frozen=True, kw_only=True, tag="halt"):
    """Set the kill switch: cancel every order, send none, also after a restart. `flatten` closes what is held."""

    reason: str = "operator"
    flatten: bool = False


class Resume(Command, frozen=True, kw_only=True, tag="resume"):
    """Clear the kill switch. Refused unless `confirm`."""

    confirm: bool = False


class Train(Command, frozen=True, kw_only=True, tag="train"):
    """Start a training now; `refit` is full, warm or "" (as due)."""

    reason: str = "operator"
    refit: Literal["", "full", "warm"] = ""


class Models(Command, frozen=True, kw_only=True, tag="models"):
    """Look at the model versions or decide about them, as `framework.wire.ModelsRequest`."""

    action: str = "list"
    version_id: str | None = None
    other_id: str | None = None
    reason: str = ""


class GetLimits(Command, frozen=True, kw_only=True, tag="limits"):
    """Ask for every limit of the gate that is in force."""


class TightenLimit(Command, frozen=True, kw_only=True, tag="tighten"):
    """Make a limit tighter; only a restart with other settings loosens it. `scope`: strategies, strategy:NAME, instrument:ID, account."""

    scope: str
    key: str
    value: str


class ResolveOrder(Command, frozen=True, kw_only=True, tag="resolve-order"):
    """Give an operator's word for what became of an UNKNOWN order: filled `quantity` lots at `price` (0: none), and it is over."""

    client_order_id: str
    quantity: int = 0
    price: str = ""
    confirm: bool = False


AnyCommand = (
    Ping | GetStatus | ListStrategies | Deploy | Undeploy | Stop | Halt | Resume | Train | Models | GetLimits | TightenLimit | ResolveOrder
)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command was not done. `exit_code` is the one that the CLI ends with."""

    message: str
    exit_code: int = 1


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a command: a result of JSON values, or a refusal."""

    result: Any = None
    refusal: Refusal | None = None
