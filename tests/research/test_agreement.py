"""A paper run and its own backtest are the same run, order by order; where venues know the queue differently, that is what is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.app import run_framework
from framework.backtest.engine import execute, prepare
from framework.backtest.planning import plan_for
from framework.config import MainConfig
from framework.operations.deployments import read_deployment, remember
from framework.operations.lineup import HOME
from framework.operations.options import SIMULATED, StartOptions
from framework.operations.state_dir import StateDir
from framework.research.run_diff import Cause, Diff, compare
from framework.strict_yaml import load_main_config
from framework.trading.journal import Journal
from tests.backtest.test_engine import silent

TIDE, ES = "TIDE.SIM", "ESU4.GLBX"
ML_OFF = {"mode": "off"}
ML_ON = {"client": {"port": 0}, "server": {"port": 0}}


def settings(folder: Path, ml_service: dict[str, Any]) -> Path:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({"ml_service": ml_service, "training": {"after_new_rows": 0}}))
    return path


def strategy(name: str) -> Path:
    return HOME / "config" / "strategies" / f"{name}.yaml"


def trade(name: str, config_path: Path, folder: Path, *, instrument_id: str = TIDE, **options: Any) -> Path:
    """Deploy a shipped strategy and `start --speed max` on a market; return the state directory."""
    text = strategy(name).read_text().replace(TIDE, instrument_id)
    with StateDir(folder) as state:
        journal = Journal(state.journal)
        remember(journal, read_deployment(text, str(strategy(name))), 0)
        journal.close()
    config = load_main_config(config_path)
    summary = run_framework(
        StartOptions(config=config, config_path=config_path, state_dir=folder, speed=None, is_headless=True, is_json=True, **options)
    )
    assert summary.exit_code == 0
    assert summary.orders > 10
    return folder


def backtest(name: str, recording: Path, keep: Path, *, config: MainConfig, ml: str, models: Path, instrument_id: str = TIDE) -> Path:
    """Run the strategy over a recording as a backtest; return where its journal is."""
    plan = plan_for(
        strategy(name),
        [recording],
        ml=ml,
        latency=None,
        settings=config,
        instrument_id=instrument_id,
        state_dir=models,
        seed=7,
        keep=keep,
    )
    execute(plan, prepare(plan, silent), silent)
    return keep


def is_the_same(found: Diff) -> bool:
    assert found.parting is None, found.parting
    return found.orders_a == found.orders_b == found.orders_same > 10 and found.unexplained == 0


Simulated = Callable[..., tuple[Path, Path, Path]]


@pytest.fixture
def simulated(tmp_path: Path) -> Simulated:
    """Return a function that trades on the simulated market and records it: (settings, state directory, recording)."""

    def run(name: str, ml_service: dict[str, Any], duration_s: float) -> tuple[Path, Path, Path]:
        config_path = settings(tmp_path, ml_service)
        recording = tmp_path / "market"
        live = trade(name, config_path, tmp_path / "live", market=(SIMULATED,), duration_s=duration_s, record_dir=recording)
        return config_path, live, recording

    return run


def test_paper_on_a_recording_of_the_market_is_its_own_backtest_and_only_queues_part_it_from_the_live_run(
    simulated: Simulated, tmp_path: Path
) -> None:
    config_path, live, recording = simulated("market_maker", ML_OFF, 300.0)
    paper = trade("market_maker", config_path, tmp_path / "paper", market=(str(recording),))
    config = load_main_config(config_path)
    again = backtest("market_maker", recording, tmp_path / "again", config=config, ml="off", models=tmp_path)

    assert is_the_same(compare(paper, again))
    apart = compare(live, again)
    assert apart.parting is not None
    assert apart.parting.cause is Cause.QUEUE
    assert set(apart.settings) - {"code"} == {"matching"}
    assert apart.unexplained == 0
    assert apart.orders_same > apart.orders_a / 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_the_ml_process_a_paper_run_is_its_own_backtest_wherever_that_takes_its_predictions_from(
    simulated: Simulated, tmp_path: Path
) -> None:
    config_path, live, recording = simulated("ml_futures", ML_ON, 120.0)
    (tmp_path / "paper").mkdir(mode=0o700)
    shutil.copytree(live / "models", tmp_path / "paper" / "models")
    paper = trade("ml_futures", config_path, tmp_path / "paper", market=(str(recording),))
    config = load_main_config(config_path)

    for number, ml in enumerate([f"recorded:{paper}", "model"]):
        again = backtest("ml_futures", recording, tmp_path / f"again-{number}", config=config, ml=ml, models=paper)
        assert is_the_same(compare(paper, again)), ml
    # It crosses the spread: no queue, and the recording holds what its orders did to the book.
    assert is_the_same(compare(live, paper))


@pytest.mark.recordings
@pytest.mark.parametrize("name", ["book_imbalance", "market_maker"])
def test_a_paper_run_on_a_real_recording_is_its_own_backtest(recordings: Path, tmp_path: Path, name: str) -> None:
    config_path = settings(tmp_path, ML_OFF)
    config = load_main_config(config_path)
    recording = recordings / "cme_es_databento" / "futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"

    paper = trade(name, config_path, tmp_path / "paper", instrument_id=ES, market=(str(recording),))
    again = backtest(name, recording, tmp_path / "again", instrument_id=ES, config=config, ml="off", models=tmp_path)

    assert is_the_same(compare(paper, again))
