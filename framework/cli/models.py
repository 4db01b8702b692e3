"""`models`: look at the model versions, their trials and every decision about them, or decide."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.errors import ConfigError
from framework.logs import foreign
from framework.operations import control
from framework.research import model_registry

NONE: Final = "none"
MAY: Final = "may"
MUST: Final = "must"
NAMES: Final = {
    "list": (NONE, NONE),
    "show": (MAY, NONE),
    "compare": (MUST, MAY),
    "promote": (MUST, NONE),
    "rollback": (NONE, NONE),
    "pin": (MAY, NONE),
    "unpin": (MAY, NONE),
}
"""How many versions each action takes; the one that is left out is the champion."""

_LIST_COLUMNS: Final = {"version": 14, "": 10, "rows": 4, "log-loss": 8, "AUC": 6}
FURTHER: Final = "further_horizons"
_HORIZON_SCORES: Final = {
    "log_loss": "log-loss",
    "auc_up_down": "AUC",
    "mcc": "MCC",
    "ece_flat": "ECE flat",
    "ece_direction": "up/down",
}
_SHOWN: Final = ("horizon_rows", "window_rows", "schema_hash", "signature")

ActionArgument = Annotated[str, typer.Argument(metavar=f"[{'|'.join(NAMES)}]", help="What to do; default list.")]
VersionArgument = Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The version that it is about.")]
OtherArgument = Annotated[str | None, typer.Argument(metavar="[OTHER]", help="compare: with this one; default the champion.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the decision.")]


def models(
    *,
    action: ActionArgument = "list",
    version: VersionArgument = None,
    other: OtherArgument = None,
    reason: ReasonOption = "",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """List, show or compare model versions; promote one, roll back, pin the champion against the gate, or unpin it."""
    check(action, version, other)
    command = control.Models(action=action, version_id=version, other_id=other, reason=foreign(reason))
    result = model_registry.ask(state_dir, command)
    if is_json:
        say_json(result)
    else:
        say(_VIEWS.get(action, _listed)(result))
    return 0


def check(action: str, version: str | None, other: str | None) -> None:
    """Raise `ConfigError` for an action that is none, or for too many or too few versions."""
    if action not in NAMES:
        raise ConfigError(f"models: found {foreign(action, 60)}; allowed {', '.join(NAMES)}")
    for found, rule, what in zip((version, other), NAMES[action], ("version", "second version"), strict=True):
        if found is None and rule is MUST:
            raise ConfigError(f"models {action}: found no {what}; allowed one that `models list` shows")
        if found is not None and rule is NONE:
            raise ConfigError(f"models {action}: found the {what} {foreign(found, 60)}; allowed none")


# --- views -----------------------------------------------------------------------------------------------------------------


def _listed(result: Any) -> RenderableType:
    versions = [dict(version) for version in result.get("versions", ())]
    if not versions:
        return Text("no model version yet; train one with: main.py train")
    table = _table("Models")
    table.expand = True
    for name, width in _LIST_COLUMNS.items():
        table.add_column(name, no_wrap=True, width=width)
    table.add_column("offline gate: log-loss against the champion", no_wrap=True, overflow="ellipsis", ratio=1)
    for version in versions:
        scores = _scores_of(version)
        cells = (version.get("horizon_rows"), *map(_score, (scores.get("log_loss"), scores.get("auc_up_down"))))
        gate = str(version.get("error") or version.get("promote_reason") or "").removeprefix("log-loss differs by ")
        table.add_row(_text(version.get("version")), _place(version, result), *map(_text, (*cells, gate)))
    facts = result.get("facts") or {}
    trials = (facts.get("learning") or {}).get("trials") or []
    return Group(table, *([_trials(trials)] if trials else []), *_decisions(facts))


def _shown(result: Any) -> RenderableType:
    facts = result["facts"]
    version = facts["version"]
    table = _table(str(version["version"]), "", "")
    table.add_row("place", _place(version, result))
    for name in _SHOWN:
        table.add_row(name.replace("_", " "), _text(version.get(name)))
    for name, value in version["facts"].items():
        for key, cell in _flat(name, value) if name != FURTHER else ():
            table.add_row(_text(key), _text(cell))
    for name, file in version["files"].items():
        table.add_row(_text(name), _text(f"{file['bytes']} B, sha256 {file['sha256']}"))
    return Group(table, *_horizons(version), *_decisions(facts))


def _horizons(version: Any) -> list[RenderableType]:
    """Return a table of all horizons where a version knows several; everything else about the further ones is in `--json`."""
    further = version["facts"].get(FURTHER) or {}
    if not further:
        return []
    table = _table("Horizons, on the test slice of each", "rows", "", *_HORIZON_SCORES.values(), "calibration")
    for rows, about in {str(version.get("horizon_rows")): version["facts"], **further}.items():
        scores = _scores_of(about)
        told = (
            rows,
            "" if rows in further else "traded",
            *(_score(scores.get(name)) for name in _HORIZON_SCORES),
            about.get("calibration"),
        )
        table.add_row(*map(_text, told))
    return [table]


def _compared(result: Any) -> RenderableType:
    facts = result["facts"]
    names = [str(version["version"]) for version in facts["versions"]]
    table = _table("Each on its own test slice", "", *names)
    for name, pair in facts["scores"].items():
        table.add_row(_text(name), *map(_text, pair))
    for name in ("requested_ns", "reason", "calibration"):
        table.add_row(_text(name), *(_text(version["facts"].get(name)) for version in facts["versions"]))
    return Group(table, *_evidence(facts, names), *_decisions(facts))


_VIEWS: Final[dict[str, Callable[[Any], RenderableType]]] = {"show": _shown, "compare": _compared}


def _trials(trials: Sequence[Any]) -> Table:
    table = _table("Trials", "challenger", "against", "windows", "blocks", "e better", "e worse", "log-loss gain", "gain, ticks")
    names = ("challenger", "champion", "windows", "blocks", "e_better", "e_worse", "log_loss_gain", "gain_ticks")
    for trial in trials:
        table.add_row(*(_text(trial.get(name)) for name in names))
    return table


def _evidence(facts: Any, names: Sequence[str]) -> list[RenderableType]:
    """Return the trials of exactly this pair: those that run, and those in the log."""
    running = (facts.get("learning") or {}).get("trials") or []
    past = [decision.get("evidence") or {} for decision in facts.get("decisions", ())]
    found = [trial for trial in (*past, *running) if {trial.get("champion"), trial.get("challenger")} == set(names)]
    return [_trials(found)] if found else [Text("no trial of these two against each other")]


def _decisions(facts: Any) -> list[RenderableType]:
    decisions = facts.get("decisions") or []
    if not decisions:
        return []
    table = _table("Decisions", "when (UTC)", "what", "version", "by", "why")
    for decision in reversed(decisions):
        words = (decision.get(name) for name in ("act", "version", "by", "reason"))
        table.add_row(_when(decision.get("at_ns", 0)), *map(_text, words))
    return [table]


def _place(version: Any, result: Any) -> str:
    marks = {"champion": version.get("version") == result.get("champion")}
    marks |= {"challenger": version.get("is_challenger"), "pinned": version.get("is_pinned")}
    return ", ".join(name for name, holds in marks.items() if holds)


def _scores_of(version: Any) -> dict[str, Any]:
    found = ((version.get("metrics") or {}).get("scores") or {}).get("model") or {}
    return dict(found)


def _score(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else ""


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _text(value: Any) -> Text:
    shown = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return Text(foreign(shown, 400))


def _when(at_ns: int) -> str:
    if not at_ns:
        return ""
    return datetime.datetime.fromtimestamp(at_ns // 1_000_000_000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
