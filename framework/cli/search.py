"""The verb search: settings of a model that are better than those that ship, if there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.cli.evaluate import (
    DEFAULT_HORIZONS,
    AddressOption,
    BackendOption,
    HorizonsOption,
    LabelOption,
    LevelsOption,
    WorkersOption,
    one_of,
    read_horizons,
)
from framework.cli.options import DEFAULT_STATE_DIR, JsonOption, StateDirOption
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.evaluation_job import BACKENDS, LABELS
from framework.logs import foreign
from framework.progress import progress_bar
from framework.research.evaluating.options import EvaluationOptions
from framework.research.searching import SearchOptions
from framework.research.searching import search as run_search
from framework.window import LEVELS

SHOWN: Final = 10

DataOption = Annotated[list[Path] | None, typer.Option("--data", metavar="FILE...", help="Recordings to search on; not those of the test.")]
MemberOption = Annotated[str, typer.Option("--member", metavar="NAME", help="Whose settings: linear, trees, mlp or mlp_steady.")]
TriesOption = Annotated[int, typer.Option("--tries", min=2, max=10_000, help="How many settings to try; the first are those that ship.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Write what was chosen, for evaluate --settings.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the proposals and of every fit.")]


def search(
    *,
    data: DataOption = None,
    member: MemberOption = "trees",
    tries: TriesOption = 20,
    horizons: HorizonsOption = DEFAULT_HORIZONS,
    label: LabelOption = LABELS[0],
    seed: SeedOption = 7,
    levels: LevelsOption = LEVELS,
    out: OutOption = None,
    backend: BackendOption = BACKENDS[0],
    address: AddressOption = None,
    workers: WorkersOption = 1,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Search for settings of a model on rows that it was not fitted on; chosen only if better than what ships beyond the luck of tries."""
    if not data:
        raise ConfigError("search: found no recordings; allowed --data FILE...")
    reading = EvaluationOptions(
        train=tuple(data),
        horizons=read_horizons(horizons),
        label=one_of("--label", label, LABELS),
        seed=seed,
        levels=levels,
        predictions=out,
        state_dir=state_dir,
        backend=one_of("--backend", backend, BACKENDS),
        address=address,
        workers=workers,
    )
    with progress_bar(is_quiet=is_json) as on_progress:
        options = SearchOptions(reading=reading, member=member, tries=tries, out=out)
        found = run_search(options, on_progress, now_ns=wall_time_ns())
    if is_json:
        say_json(found)
    else:
        say(_view(found))
    return 0


def _view(found: dict[str, Any]) -> RenderableType:
    names = list(found["shipped"]["values"])
    table = Table(
        title=f"{foreign(found['member'])}: log-loss of rows that it was not fitted on", title_justify="left", box=box.SIMPLE_HEAD
    )
    for name in ("", "mean", *(f"{horizon} rows" for horizon in found["horizons"]), *names):
        table.add_column(name, overflow="fold")
    best = sorted(found["tries"], key=lambda one: float(one["log_loss"]))[:SHOWN]
    for title, one in (("ships", found["shipped"]), *((f"{place}.", one) for place, one in enumerate(best, start=1))):
        losses = (f"{value:.4f}" for value in (one["log_loss"], *one["by_horizon"].values()))
        table.add_row(title, *losses, *(f"{one['values'][name]:.3g}" for name in names))
    return Group(table, Text(_verdict(found)))


def _verdict(found: dict[str, Any]) -> str:
    chance = found["deflated"]["probability"] or 0.0
    words = f"probability that the best is better than what ships, deflated by {len(found['tries'])} tries: {chance:.2f}"
    return f"{words}; chosen" if found["is_chosen"] else f"{words}; what ships is kept"
