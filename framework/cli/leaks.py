"""The verb check-leaks: does it know the future?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from framework.cli.options import DEFAULT_STATE_DIR, ConfigOption, JsonOption, StateDirOption, read_config
from framework.cli.output import say, say_json
from framework.errors import ConfigError, IntegrityError
from framework.leak_job import CHAMPION, SHIPPED, Finding, LeakJob, Verdict
from framework.logs import foreign
from framework.operations.state_dir import StateDir
from framework.research import leaks
from framework.research.leaks import LeakOptions, has_leak

FOUND_LEAK: Final = IntegrityError.exit_code
STYLES: Final = {Verdict.OK: "green", Verdict.LEAK: "bold red", Verdict.FAILED: "red", Verdict.SKIPPED: "yellow"}
_TARGET: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")
_MODEL: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")

FeaturesOption = Annotated[bool, typer.Option("--features", help="Check the features of Tidebook, and its label.")]
FunctionOption = Annotated[
    str | None, typer.Option("--function", metavar="MODULE:NAME", help="Check your own features: anything that makes columns of rows.")
]
LabelOption = Annotated[str | None, typer.Option("--label", metavar="MODULE:NAME", help="Check your own label: label(rows, horizon_rows).")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Check champion, a version, a name as for evaluate, or MODULE:NAME to be fitted."),
]
StrategyOption = Annotated[Path | None, typer.Option("--strategy", metavar="FILE", help="Check a strategy: its deployment file.")]
DataOption = Annotated[list[Path] | None, typer.Option("--data", metavar="FILE...", help="Recordings to cut and permute.")]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, max=1_000, help="How many generated books; 20 for a claim.")]
RowsOption = Annotated[int, typer.Option("--rows", min=4_000, max=1_000_000, help="Rows of each generated book.")]
HorizonOption = Annotated[int, typer.Option("--horizon", min=1, max=1_000, help="Horizon of labels, in rows.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The first seed.")]


def check_leaks(
    *,
    model: ModelOption = None,
    strategy: StrategyOption = None,
    is_features: FeaturesOption = False,
    function: FunctionOption = None,
    label: LabelOption = None,
    data: DataOption = None,
    seeds: SeedsOption = 3,
    rows: RowsOption = 12_000,
    horizon: HorizonOption = 20,
    seed: SeedOption = 7,
    config: ConfigOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Look for knowledge of the future in features, labels, models and strategies; exit 6 if there is some.

    Without a subject: the features, the label and the models of Tidebook.
    """
    settings, _ = read_config(config)
    is_bare = not (model or strategy or is_features or function or label)
    if is_features and function:
        raise ConfigError("check-leaks: found --features together with --function; allowed one of both")
    job = LeakJob(
        features=_target("--function", function) if function else SHIPPED if is_features or is_bare else "",
        label=_target("--label", label) if label else SHIPPED if is_features or is_bare else "",
        model=_model(model) if model else SHIPPED if is_bare else "",
        models_dir=str(StateDir(state_dir).models),
        seeds=seeds,
        rows=rows,
        horizon_rows=horizon,
        window_rows=settings.training.window_rows,
        seed=seed,
    )
    options = LeakOptions(job=job, main=settings, strategy=strategy, data=tuple(data or ()))
    found = leaks.check_leaks(options, lambda _stage, _share: None, _keep_silent if is_json else _Teller())
    if is_json:
        say_json({"leak": has_leak(found), "findings": found, "job": msgspec.structs.replace(job, models_dir="")})
    else:
        say(_summary(found))
    return FOUND_LEAK if has_leak(found) else 0


def _target(option: str, text: str) -> str:
    if not _TARGET.fullmatch(text):
        raise ConfigError(f"{option}: found {foreign(text, 80)}; allowed module:name, for example my_features:make")
    return text


def _model(text: str) -> str:
    if not _MODEL.fullmatch(text):
        raise ConfigError(f"--model: found {foreign(text, 80)}; allowed {SHIPPED}, {CHAMPION}, a version, an entry point, or module:name")
    return text


class _Teller:
    """Prints findings as they come, under a heading for each subject."""

    def __init__(self) -> None:
        self._subject = ""

    def __call__(self, finding: Finding) -> None:
        """Print one finding."""
        if finding.subject != self._subject:
            self._subject = finding.subject
            say(foreign(finding.subject, 200))
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=7, no_wrap=True)
        table.add_column(min_width=34, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(finding.verdict.upper(), STYLES[finding.verdict]), finding.check, foreign(finding.detail, 2_000))
        say(table)


def _summary(found: list[Finding]) -> str:
    counts = {verdict: sum(one.verdict is verdict for one in found) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing was checked"


def _keep_silent(_: Finding) -> None:
    pass
