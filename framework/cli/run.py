"""Verbs that run or make something here: start, ml-service, create-keys, doctor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from framework.cli.market_option import read_market
from framework.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_STATE_DIR,
    ConfigOption,
    Entry,
    JsonOption,
    MarketOption,
    StateDirOption,
    read_config,
    read_speed,
)
from framework.cli.output import say, say_json
from framework.clock import wall_time_ns
from framework.errors import ConfigError
from framework.kernel.spawn import finding_us
from framework.operations import curve_keys
from framework.operations import doctor as doctors
from framework.operations.dashboard import can_show
from framework.operations.options import SIMULATED, StartOptions, summary_table

SpeedOption = Annotated[str, typer.Option("--speed", metavar="X|max", help="Market time per real time, or as fast as possible.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the simulated market.")]
DurationOption = Annotated[float | None, typer.Option("--duration", metavar="S", help="End after this much market time, s.")]
RecordOption = Annotated[Path | None, typer.Option("--record", metavar="DIR", help="Record the market into this folder, for a replay.")]
KeysDirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder for the keys; made if it is not there.")]
ClientsOption = Annotated[list[str], typer.Option("--client", metavar="NAME", help="A client that may connect; give it for each one.")]
HeadlessOption = Annotated[bool, typer.Option("--headless", help="Log lines instead of the live view.")]


def start(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    market: MarketOption = [SIMULATED],  # noqa: B006 (Typer reads the default, nobody changes it)
    speed: SpeedOption = "1",
    seed: SeedOption = 7,
    duration: DurationOption = None,
    record: RecordOption = None,
    is_headless: HeadlessOption = False,
    is_json: JsonOption = False,
) -> int:
    """Trade: run the market and every deployed strategy, with the ML process beside them. Starting again is recovery."""
    entry: Entry = context.obj
    settings, path = read_config(config)
    options = StartOptions(
        config=settings,
        config_path=path,
        state_dir=state_dir,
        market=read_market(market),
        speed=read_speed(speed),
        seed=seed,
        duration_s=_read_duration(duration),
        record_dir=record,
        is_headless=is_headless or is_json or not can_show(sys.stdout),
        is_json=is_json,
        is_debug=entry.is_debug,
    )
    summary = entry.run_framework(options)
    if is_json:
        say_json(summary)
    else:
        say(summary_table(summary))
    return summary.exit_code


def ml_service(*, config: ConfigOption = None, state_dir: StateDirOption = DEFAULT_STATE_DIR) -> int:
    """Run the ML process alone, in the foreground, for `ml_service.mode: external`."""
    _, path = read_config(config)
    options = ["--config", str(path)] if path is not None else []
    sys.stdout.flush()
    argv = [sys.executable, "-m", "ml_actor", *options, "--state-dir", str(state_dir)]
    os.execve(sys.executable, argv, finding_us(os.environ))


def create_keys(
    *,
    directory: KeysDirOption = Path("keys"),
    clients: ClientsOption = ["trading"],  # noqa: B006 (Typer reads the default, nobody changes it)
    is_json: JsonOption = False,
) -> int:
    """Make CURVE keys, so that the ML process can run on another machine and only known clients reach it."""
    files = curve_keys.create_keys(directory, clients)
    if is_json:
        say_json(files)
    else:
        say(f"Keys are in {directory}. For config/main.yaml (each side needs only its own block):\n\n{curve_keys.yaml_of(files)}")
    return 0


def doctor(
    *,
    config: ConfigOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    market: MarketOption = [SIMULATED],  # noqa: B006 (Typer reads the default, nobody changes it)
    is_json: JsonOption = False,
) -> int:
    """Look for what would keep Tidebook from starting, trading or learning here; exit 2 if something does."""
    path = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    patient = doctors.Patient(config_path=path, state_dir=state_dir, now_ns=wall_time_ns(), market=read_market(market))
    checks = doctors.examine(patient)
    if is_json:
        say_json(checks)
    else:
        say(doctors.checks_table(checks))
    return 0 if doctors.is_healthy(checks) else ConfigError.exit_code


def _read_duration(duration: float | None) -> float | None:
    if duration is not None and not 0 < duration <= 1e9:
        raise ConfigError(f"--duration: found {duration:g}; allowed a number above 0 up to 1000000000")
    return duration
