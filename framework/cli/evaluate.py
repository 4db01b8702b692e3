"""The verb evaluate: fit on some recordings, score on others."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Final

import typer

from framework.cli.options import DEFAULT_STATE_DIR, ConfigOption, JsonOption, StateDirOption, read_config
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.evaluation_job import BACKENDS, DEFAULT_MODEL, LABELS
from framework.logs import foreign
from framework.progress import progress_bar
from framework.research.evaluating import evaluate as run_evaluation
from framework.research.evaluating.options import EvaluationOptions, Fee
from framework.research.evaluating.table import report_view
from framework.research.searching import read_settings
from framework.window import LEVELS

DEFAULT_HORIZONS: Final = "10,20,50,100"
MAX_HORIZON: Final = 100_000
MAX_HORIZONS: Final = 16

TrainOption = Annotated[list[Path] | None, typer.Option("--train", metavar="FILE...", help="Recordings to fit on.")]
TestOption = Annotated[list[Path] | None, typer.Option("--test", metavar="FILE...", help="Recordings to predict and score.")]
DataOption = Annotated[list[Path] | None, typer.Option("--data", metavar="FILE...", help="Recordings to walk forward through by session.")]
WalkOption = Annotated[bool, typer.Option("--walk-forward", help="Walk forward through --data; the default where only --data is given.")]
FoldsOption = Annotated[int, typer.Option("--folds", min=1, max=100, help="Tests of a walk-forward.")]
SplitOption = Annotated[float | None, typer.Option("--split", metavar="SHARE", help="Fit on this first share of --data, test on the rest.")]
HorizonsOption = Annotated[str, typer.Option("--horizons", metavar="H,H...", help="Horizons in rows (book updates).")]
LabelOption = Annotated[str, typer.Option("--label", metavar="|".join(LABELS), help="Sign of the move, or beyond its 1/3 quantile.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="NAME", help="What to fit; baselines are always in the table.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of every fit and of the bootstrap.")]
LevelsOption = Annotated[int, typer.Option("--levels", min=1, max=LEVELS, help="See only the best levels of each side.")]
FeeOption = Annotated[str | None, typer.Option("--taker-fee", metavar="MONEY|Nbp", help="Per lot, or of the price; default the venue's.")]
PredictionsOption = Annotated[Path | None, typer.Option("--predictions", metavar="OUT.parquet", help="Write every prediction here.")]
ReportOption = Annotated[Path | None, typer.Option("--report", metavar="OUT.html", help="Write the whole report here, for a browser.")]
BackendOption = Annotated[str, typer.Option("--backend", metavar="|".join(BACKENDS), help="Where folds run: processes here, or a cluster.")]
AddressOption = Annotated[str | None, typer.Option("--address", metavar="HOST:PORT", help="The cluster's scheduler.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, max=1_000, help="How many processes here.")]
SettingsOption = Annotated[Path | None, typer.Option("--settings", metavar="FILE.json", help="Settings of the model, from search --out.")]


def evaluate(
    *,
    train: TrainOption = None,
    test: TestOption = None,
    data: DataOption = None,
    is_walk_forward: WalkOption = False,
    folds: FoldsOption = 5,
    split: SplitOption = None,
    horizons: HorizonsOption = DEFAULT_HORIZONS,
    label: LabelOption = LABELS[0],
    model: ModelOption = DEFAULT_MODEL,
    seed: SeedOption = 7,
    levels: LevelsOption = LEVELS,
    taker_fee: FeeOption = None,
    predictions: PredictionsOption = None,
    report: ReportOption = None,
    backend: BackendOption = BACKENDS[0],
    address: AddressOption = None,
    workers: WorkersOption = 1,
    settings: SettingsOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    is_json: JsonOption = False,
) -> int:
    """Fit on recordings and score on others: calibration, skill over the baselines, and what a taker would have kept."""
    main, _ = read_config(config)
    options = EvaluationOptions(
        train=tuple(train or ()),
        test=tuple(test or ()),
        data=tuple(data or ()),
        split=split,
        folds=folds,
        horizons=read_horizons(horizons),
        label=one_of("--label", label, LABELS),
        model=model,
        seed=seed,
        levels=levels,
        fee=read_fee(taker_fee) if taker_fee is not None else None,
        default_fee=Fee(amount=Decimal(main.paper.taker_fee)),
        predictions=predictions,
        report=report,
        state_dir=state_dir,
        backend=one_of("--backend", backend, BACKENDS),
        address=address,
        workers=workers,
        settings=read_settings(settings) if settings is not None else {},
        command="python main.py " + " ".join(sys.argv[1:]),
    )
    _check_parts(options, is_walk_forward=is_walk_forward)
    return _run(options, is_json=is_json)


def _run(options: EvaluationOptions, *, is_json: bool) -> int:
    with progress_bar(is_quiet=is_json) as on_progress:
        found = run_evaluation(options, on_progress, now_ns=wall_time_ns())
    if is_json:
        say_json(found)
    else:
        say(report_view(found, shutil.get_terminal_size().columns))
    return 0


def read_horizons(text: str) -> tuple[int, ...]:
    """Return the horizons of `10,20,50`. Raises `ConfigError`."""
    parts = [part.strip() for part in text.split(",")]
    allowed = f"allowed up to {MAX_HORIZONS} different whole numbers from 1 to {MAX_HORIZON}, with commas between"
    if not all(part.isdecimal() and part.isascii() and len(part) < 10 for part in parts):
        raise ConfigError(f"--horizons: found {foreign(text, 60)}; {allowed}")
    numbers = tuple(int(part) for part in parts)
    if len(set(numbers)) < len(numbers) or len(numbers) > MAX_HORIZONS or not all(1 <= number <= MAX_HORIZON for number in numbers):
        raise ConfigError(f"--horizons: found {foreign(text, 60)}; {allowed}")
    return numbers


def read_fee(text: str) -> Fee:
    """Return the fee of `0.85` (money per lot) or `5bp` (basis points of the price). Raises `ConfigError`."""
    try:
        amount = Decimal(text.removesuffix("bp"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > 1_000_000:
        raise ConfigError(f"--taker-fee: found {foreign(text, 60)}; allowed money per lot such as 0.85, or basis points such as 5bp")
    return Fee(amount=amount, is_basis_points=text.endswith("bp"))


def one_of(option: str, text: str, allowed: tuple[str, ...]) -> str:
    """Return a text that is one of `allowed`. Raises `ConfigError`."""
    if text not in allowed:
        raise ConfigError(f"{option}: found {foreign(text, 60)}; allowed {', '.join(allowed)}")
    return text


def _check_parts(options: EvaluationOptions, *, is_walk_forward: bool) -> None:
    """Refuse combinations of --train, --test, --data, --split and --walk-forward that name no evaluation."""
    has_fixed, has_data = bool(options.train or options.test), bool(options.data)
    problems = (
        (not has_fixed and not has_data, "found no recordings; allowed --train FILE... --test FILE..., or --data FILE..."),
        (has_fixed and has_data, "found --data together with --train or --test; allowed one way or the other"),
        (has_fixed and not (options.train and options.test), "found only one of --train and --test; allowed both"),
        (has_fixed and is_walk_forward, "found --walk-forward with --train and --test; allowed with --data"),
        (options.split is not None and (has_fixed or is_walk_forward), "found --split; allowed with --data and without --walk-forward"),
        (options.split is not None and not 0.05 <= options.split <= 0.95, f"found --split {options.split}; allowed 0.05 to 0.95"),
    )
    for is_wrong, text in problems:
        if is_wrong:
            raise ConfigError(f"evaluate: {text}")
