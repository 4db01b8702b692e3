"""The settings: what ships is valid, complete and commented; what does not go together is refused."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from framework import config
from framework.config import MainConfig, Settings, StrategyFile
from framework.strict_yaml import ConfigFileError, load_main_config, load_strategy_file, load_strategy_text, parse, validate

ROOT = Path(__file__).resolve().parents[1]
STRATEGIES = sorted((ROOT / "config" / "strategies").glob("*.yaml"))

MISSION_STRATEGY = """\
name: your_futures_strategy
strategy: strategies.ml_futures:MLFuturesStrategy
instrument_id: TIDE.SIM
# DOM data accumulation
max_dom_history: 100      # Keep last 100 DOM snapshots
min_dom_samples: 10       # Minimum samples before prediction

# ML service settings
prediction_confidence_threshold: 0.6    # Minimum confidence to act
prediction_cooldown_seconds: 30         # Seconds between predictions

# ML service configuration
ml_service:
  host: "localhost"
  port: 5555
  timeout: 5.0
  retry_attempts: 3
  use_binary: true

# Feedback loop settings
max_feedback_buffer: 1000      # Maximum feedback samples to store
feedback_batch_size: 50        # Send feedback in batches
feedback_send_interval_minutes: 5  # Send feedback every 5 minutes
"""
MISSION_MAIN = """\
ml_service:
  client:
    host: "127.0.0.1"
    port: 5556
  server:
    host: "0.0.0.0"
    port: 5556
"""


def keys(model: type[Settings], prefix: str = "") -> dict[str, Any]:
    """Return every key of a settings model that has a default, by its dotted name."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Settings):
            found |= keys(type(default), f"{prefix}{name}.")
        else:
            found[prefix + name] = default
    return found


WITHOUT_DEFAULT = ("ml_service.client.curve", "ml_service.server.curve", "paper.latency_profile")


def test_the_strategy_of_the_mission_works_as_written() -> None:
    file = load_strategy_text(MISSION_STRATEGY, "your_futures_strategy.yaml")

    assert file.prediction_cooldown_seconds == 30
    assert file.ml_service == config.StrategyMLService(host="localhost", port=5555, timeout=5.0, retry_attempts=3, use_binary=True)


def test_the_main_file_of_the_mission_works_as_written() -> None:
    main = validate(parse(MISSION_MAIN, "main.yaml"), MainConfig)

    assert main.ml_service.client == config.MLClientEndpoint(host="127.0.0.1", port=5556)
    assert (main.ml_service.server.host, main.ml_service.server.port, main.ml_service.server.curve) == ("0.0.0.0", 5556, None)


def test_the_main_file_that_ships_states_every_default() -> None:
    path = ROOT / "config" / "main.yaml"

    assert load_main_config(path) == MainConfig()
    written = parse(path.read_text(), "main.yaml").value_positions
    missing = [name for name in keys(MainConfig) if tuple(name.split(".")) not in written and name not in WITHOUT_DEFAULT]
    assert missing == []


def test_every_key_of_the_main_file_has_a_comment_with_its_default() -> None:
    lines = (ROOT / "config" / "main.yaml").read_text().splitlines()
    values = [line for line in lines if re.match(r"\s+[a-z_]+: \S", line)]

    assert len(values) == len(keys(MainConfig)) - len(WITHOUT_DEFAULT)
    for line in values:
        value = line.partition(":")[2].partition("#")[0].strip().strip('"')
        assert f"default {value}" in line.partition("#")[2], line


@pytest.mark.parametrize("path", STRATEGIES, ids=lambda path: path.name)
def test_the_strategies_that_ship_are_valid(path: Path) -> None:
    assert load_strategy_file(path).name == path.stem


def test_every_key_is_explained_in_the_docs() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    names = [*keys(MainConfig), *StrategyFile.model_fields, *(f"ml_service.{name}" for name in config.StrategyMLService.model_fields)]

    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("model", "text", "complaint"),
    [
        (
            MainConfig,
            "training: {horizon_rows: 20, further_horizons_rows: [5, 20]}",
            "f:1:53: training.further_horizons_rows: found [5, 20]; allowed each horizon once, horizon_rows (20) not among them",
        ),
        (MainConfig, "training: {min_rows: 5000, max_rows: 4000}", "f:1:22: training.min_rows: found 5000; allowed at most max_rows, 4000"),
        (
            MainConfig,
            "ml_service: {mode: external, client: {port: 0}}",
            "f:1:38: ml_service.client: found port 0; allowed the port that the external service listens on",
        ),
        (
            MainConfig,
            "ml_service: {server: {port: 5557}}",
            "f:1:22: ml_service.server: found port 5557; allowed port 5556 (the client's) or 0 (any free one)",
        ),
        (
            StrategyFile,
            "name: x\nstrategy: m:C\ninstrument_id: A.B\nmin_dom_samples: 200",
            "f:4:18: min_dom_samples: found 200; allowed at most max_dom_history, 100",
        ),
        (
            StrategyFile,
            "name: x\nstrategy: m:C\ninstrument_id: A.B\nmax_feedback_buffer: 10",
            "f:1:1: feedback_batch_size: found 50; allowed at most max_feedback_buffer, 10",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(model: type[Settings], text: str, complaint: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        validate(parse(text, "f"), model)

    assert str(caught.value) == complaint


@pytest.mark.parametrize("port", [5556, 0])
def test_a_spawned_service_binds_the_port_of_its_client_or_any(port: int) -> None:
    assert MainConfig.model_validate({"ml_service": {"server": {"port": port}}}).ml_service.server.port == port


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError):
        MainConfig().risk.max_position = 1_000  # type: ignore[misc]


@pytest.mark.parametrize("text", ["0.10", "0.25", "-0.05", "3", "0.1234567890123456", "1e-3"])
def test_money_is_exactly_what_was_written(text: str) -> None:
    main = validate(parse(f"paper: {{maker_fee: {text}}}", "f"), MainConfig)

    assert main.paper.maker_fee == Decimal(text)
    assert str(main.paper.maker_fee) == str(Decimal(text))


@pytest.mark.parametrize("text", ["'0.25'", "true", "1e-400", "1e10", "[1]"])
def test_what_is_no_sum_of_money_is_refused(text: str) -> None:
    with pytest.raises(ConfigFileError, match=r"^f:1:20: paper\.maker_fee: found .*; allowed a number from -1000000000 to 1000000000$"):
        validate(parse(f"paper: {{maker_fee: {text}}}", "f"), MainConfig)


settings_values = st.builds(
    MainConfig,
    ml_service=st.builds(
        config.MLServiceConfig,
        mode=st.sampled_from(["spawn", "external", "off"]),
        timeout=st.floats(1e-9, 1e9),
        retry_attempts=st.integers(0, 10),
        use_binary=st.booleans(),
    ),
    training=st.builds(
        config.TrainingConfig, window_rows=st.integers(10, 1_000), every_minutes=st.floats(0, 1e9), seed=st.integers(0, 2**32 - 1)
    ),
    paper=st.builds(
        config.PaperConfig, maker_fee=st.decimals(-1_000, 1_000, places=4), order_latency_ms=st.floats(0, 1e9, allow_subnormal=False)
    ),
    simulated_market=st.builds(config.SimulatedMarketConfig, signal_strength=st.floats(0, 1)),
)


def written(settings: Settings) -> str:
    """Write settings as YAML; money as the plain number that a person would write."""
    text: str = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return re.sub(r"(\w+): '([-0-9.]+)'", r"\1: \2", text)


@given(settings_values)
def test_settings_survive_being_written_and_read(settings: MainConfig) -> None:
    assert validate(parse(written(settings), "f"), MainConfig) == settings
