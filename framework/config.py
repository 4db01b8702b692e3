"""The settings, as pydantic models: every key that `config/*.yaml` may have, with unit, default and range.

The mission's keys stay as the user wrote them; everything else carries its unit. `framework.strict_yaml` reads files.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError


def _exact(value: object) -> object:
    """Return a number as it was written (`0.10` is 0.10, not the nearest float); anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        exact = Decimal(str(value))  # str: a `SourceFloat` gives its source text
    except InvalidOperation:
        return value
    exponent = exact.as_tuple().exponent
    return exact if isinstance(exponent, int) and exponent >= -18 else value


def conflict(key: str, found: object, allowed: str) -> PydanticCustomError:
    """Return the error of a key that does not go together with another one; for use in a model validator."""
    return PydanticCustomError("conflict", "{key}: found {found}; allowed {allowed}", {"key": key, "found": found, "allowed": allowed})


Port = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Retries = Annotated[int, Field(ge=0, le=10)]
HorizonRows = Annotated[int, Field(ge=1, le=1_000)]
Money = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=-1_000_000_000, le=1_000_000_000, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": -1_000_000_000, "maximum": 1_000_000_000}),
]
Limit = Annotated[int, Field(ge=0, le=1_000_000_000)]
Amount = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0, le=1_000_000_000_000, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1_000_000_000_000}),
]
HourOfDay = Annotated[float, Field(ge=0, lt=24, allow_inf_nan=False)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$", description="a host name or an address")]
FilePath = Annotated[str, Field(min_length=1, max_length=1_000, description="a path")]


StrategyName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", description="a letter, then at most 63 letters, digits, - and _"),
]
StrategyClass = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=300, description="module:Class"),
]
InstrumentId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.!@#+-]{1,64}\.[A-Za-z0-9]{1,16}$", description="SYMBOL.VENUE, for example TIDE.SIM"),
]


class Settings(pydantic.BaseModel):
    """Base: strict types, no unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Endpoint(Settings):
    """Where a socket connects or binds. Port 0 lets a spawned service pick a free one."""

    host: Host = "127.0.0.1"
    port: Port = 5556


class CurveKeys(Settings):
    """CURVE key files (mode 0600) and the folder of allowed client keys; needed for any bind beyond loopback."""

    server_secret_file: FilePath
    allowed_clients_dir: FilePath


class ClientCurveKeys(Settings):
    """CURVE key files of a client: its own secret key (mode 0600), and the public key of the server that it expects."""

    client_secret_file: FilePath
    server_public_file: FilePath


class MLClientEndpoint(Endpoint):
    """Where the trading process connects, and with which keys."""

    curve: ClientCurveKeys | None = None


class MLServer(Endpoint):
    """Where the `MLService` binds."""

    curve: CurveKeys | None = None


class MLServiceConfig(Settings):
    """The link to the ML process and its supervision."""

    client: MLClientEndpoint = MLClientEndpoint()
    server: MLServer = MLServer()
    mode: Literal["spawn", "external", "off"] = "spawn"
    timeout: Positive = 5.0
    retry_attempts: Retries = 3
    use_binary: bool = True
    heartbeat_interval_s: Positive = 0.5
    heartbeat_misses: Count = 4
    max_restarts: Count = 5
    restart_window_s: Positive = 60.0
    memory_limit_mb: Annotated[int, Field(ge=256, le=10_000_000)] = 4_096

    @model_validator(mode="after")
    def _ends_meet(self) -> Self:
        """Refuse a client that can never reach its server."""
        if self.mode == "external" and self.client.port == 0:
            raise conflict("client", "port 0", "the port that the external service listens on")
        if self.mode == "spawn" and self.server.port not in {0, self.client.port}:
            raise conflict("server", f"port {self.server.port}", f"port {self.client.port} (the client's) or 0 (any free one)")
        if self.mode == "spawn" and (self.server.curve is None) != (self.client.curve is None):
            raise conflict("client", "CURVE keys on one side only", "client.curve and server.curve, both or neither")
        return self


class TrialConfig(Settings):
    """When the trial of a challenger decides (docs/learning.md). Equal challengers pass with at most the chance `alpha`."""

    alpha: Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)] = 0.05
    min_windows: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    min_blocks: Annotated[int, Field(ge=10, le=1_000_000)] = 20
    max_blocks: Annotated[int, Field(ge=10, le=1_000_000)] = 400

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        """Refuse a trial that ends before it may decide."""
        if self.min_blocks > self.max_blocks:
            raise conflict("min_blocks", self.min_blocks, f"at most max_blocks, {self.max_blocks}")
        return self


class TrainingConfig(Settings):
    """What the ML process learns, and when. 0 turns a trigger off. `horizon_rows` is traded; further horizons are told beside it."""

    window_rows: Annotated[int, Field(ge=10, le=1_000)] = 100
    horizon_rows: HorizonRows = 50
    further_horizons_rows: Annotated[list[HorizonRows], Field(max_length=7)] = []
    min_rows: Annotated[int, Field(ge=500, le=100_000_000)] = 3_000
    max_rows: Annotated[int, Field(ge=1_000, le=100_000_000)] = 200_000
    after_new_rows: Annotated[int, Field(ge=0, le=100_000_000)] = 5_000
    every_minutes: NotNegative = 0.0
    drift_cooldown_minutes: NotNegative = 10.0
    half_life_rows: NotNegative = 0.0
    full_every: Annotated[int, Field(ge=1, le=1_000)] = 1
    versions_kept: Annotated[int, Field(ge=2, le=1_000)] = 10
    promotion: Literal["shadow", "offline"] = "shadow"
    trial: TrialConfig = TrialConfig()
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 7

    @model_validator(mode="after")
    def _enough_rows(self) -> Self:
        """Refuse a training that could never start."""
        if self.min_rows > self.max_rows:
            raise conflict("min_rows", self.min_rows, f"at most max_rows, {self.max_rows}")
        return self

    @model_validator(mode="after")
    def _each_horizon_once(self) -> Self:
        """Refuse a horizon that is named twice."""
        further = self.further_horizons_rows
        if len({self.horizon_rows, *further}) <= len(further):
            raise conflict("further_horizons_rows", further, f"each horizon once, horizon_rows ({self.horizon_rows}) not among them")
        return self


class ScopeLimits(Settings):
    """Limits of one strategy, one instrument or the account; 0 is no limit. All orders within the scope count together.

    Quantities in lots, money in the instrument's currency. A position limit is per instrument in every scope.
    """

    max_order_quantity: Limit = 0
    max_order_notional: Amount = Decimal(0)
    max_position: Limit = 0
    max_open_orders: Limit = 0
    max_orders_per_second: Limit = 0
    max_orders_per_minute: Limit = 0
    max_notional_per_minute: Amount = Decimal(0)
    max_daily_loss: Amount = Decimal(0)
    max_drawdown: Amount = Decimal(0)
    max_consecutive_losses: Limit = 0
    max_fills_unattended: Limit = 0


class AccountLimits(ScopeLimits):
    """Limits of everything together. `cash` and `margin_share`: open notional x share must be covered by cash and profit."""

    max_gross_notional: Amount = Decimal(0)
    cash: Amount = Decimal(0)
    margin_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1


class RiskLimits(ScopeLimits):
    """Limits of the risk gate (`docs/risk.md`). Those of `ScopeLimits` here are for each strategy; the tightest of all scopes rules.

    `on_quarantine` says what becomes of the orders and the position of a strategy that raised.
    """

    max_order_quantity: Count = 10
    max_position: Count = 20
    max_open_orders: Count = 50
    max_orders_per_second: Count = 20
    max_orders_per_minute: Limit = 600
    price_collar_ticks: Count = 40
    last_trade_collar_ticks: Limit = 200
    max_book_age_s: Positive = 5.0
    max_intent_age_s: Positive = 1.0
    max_prediction_age_s: Positive = 10.0
    duplicate_window_s: NotNegative = 1.0
    prevent_self_trade: bool = True
    max_cancels_per_second: Count = 100
    answer_timeout_s: Positive = 5.0
    day_starts_hour_utc: HourOfDay = 0.0
    session_ends_hour_utc: HourOfDay = 21.0
    flat_before_session_end_s: Annotated[float, Field(ge=0, lt=86_400, allow_inf_nan=False)] = 0.0
    on_quarantine: Literal["keep_exits", "cancel_all", "flatten"] = "keep_exits"
    account: AccountLimits = AccountLimits()
    strategies: dict[StrategyName, ScopeLimits] = {}
    instruments: dict[InstrumentId, ScopeLimits] = {}


class InstrumentMargin(Settings):
    """What a venue wants for each lot: `initial` before an order is taken, `maintenance` for what is held, in money."""

    initial: Amount
    maintenance: Amount

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        """Refuse a margin that calls for more the moment that it is met."""
        if self.maintenance > self.initial:
            raise conflict("maintenance", self.maintenance, f"at most initial, {self.initial}")
        return self


class PaperConfig(Settings):
    """The paper venue: latencies in ms, fees in money per lot (negative: rebate), the queue model of `framework.venues.queue_models`.

    `feed_latency_ms` is how far the feed is behind the exchange at most. `latency_spread` makes the order and response latencies
    medians of a lognormal distribution; `latency_profile` takes them from a file instead. `own_process`: the venue outlives `start`.
    `bar_...` are for recordings of bars alone (`framework.venues.bar_matching`).
    `cash` is the account's money there (0: no margin is asked), `margins` what lots need where that is not the instrument's own margin.
    """

    order_latency_ms: NotNegative = 2.0
    response_latency_ms: NotNegative = 1.0
    feed_latency_ms: NotNegative = 0.0
    latency_spread: Annotated[float, Field(ge=0, le=3, allow_inf_nan=False)] = 0.0
    latency_seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 7
    latency_profile: FilePath | None = None
    queue_model: Literal["risk_averse", "power", "power_2", "power_3", "log", "log_2", "fifo"] = "risk_averse"
    queue_power: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 3.0
    maker_fee: Money = Decimal("0.25")
    taker_fee: Money = Decimal("0.85")
    bar_fills: bool = True
    bar_slippage_ticks: Annotated[int, Field(ge=1, le=1_000)] = 1
    bar_through_ticks: Annotated[int, Field(ge=0, le=1_000)] = 1
    bar_volume_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1
    own_process: bool = False
    cash: Amount = Decimal(0)
    margins: dict[InstrumentId, InstrumentMargin] = {}

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        """Refuse exact queues on a clock of their own (order logs are on receive time) or in a process without the recording."""
        if self.queue_model == "fifo" and self.own_process:
            raise conflict("own_process", "true", "false with queue_model fifo")
        if self.queue_model == "fifo" and self.feed_latency_ms:
            raise conflict("feed_latency_ms", self.feed_latency_ms, "0 with queue_model fifo")
        return self


class SimulatedMarketConfig(Settings):
    """The built-in simulated futures market. `signal_strength` 0 makes order flow say nothing about the future."""

    signal_strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.6
    book_interval_ms: Annotated[float, Field(ge=10, le=5_000, allow_inf_nan=False)] = 100.0


class ReplayConfig(Settings):
    """Replay: a prediction is delivered at request time + `prediction_latency_ms` of market time at `--speed max`."""

    prediction_latency_ms: NotNegative = 5.0


class MainConfig(Settings):
    """`config/main.yaml`."""

    ml_service: MLServiceConfig = MLServiceConfig()
    training: TrainingConfig = TrainingConfig()
    risk: RiskLimits = RiskLimits()
    paper: PaperConfig = PaperConfig()
    simulated_market: SimulatedMarketConfig = SimulatedMarketConfig()
    replay: ReplayConfig = ReplayConfig()


class StrategyMLService(Settings):
    """A strategy's own `ml_service` block: each key given here overrides `main.yaml`."""

    host: Host | None = None
    port: Port | None = None
    timeout: Positive | None = None
    retry_attempts: Retries | None = None
    use_binary: bool | None = None


class StrategyFile(Settings):
    """`config/strategies/*.yaml`: one deployment. `parameters` is checked against the strategy's own `Parameters`."""

    name: StrategyName
    strategy: StrategyClass
    instrument_id: InstrumentId
    max_dom_history: Annotated[int, Field(ge=10, le=100_000)] = 100
    min_dom_samples: Count = 10
    prediction_confidence_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.6
    prediction_cooldown_seconds: NotNegative = 30.0
    max_prediction_age_s: Positive = 1.0
    max_book_moves: Annotated[int, Field(ge=0, le=1_000_000_000)] = 20
    ml_service: StrategyMLService | None = None
    max_feedback_buffer: Count = 1_000
    feedback_batch_size: Count = 50
    feedback_send_interval_minutes: Positive = 5.0
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _buffers_fit(self) -> Self:
        """Refuse a minimum that its buffer can never hold."""
        if self.min_dom_samples > self.max_dom_history:
            raise conflict("min_dom_samples", self.min_dom_samples, f"at most max_dom_history, {self.max_dom_history}")
        if self.feedback_batch_size > self.max_feedback_buffer:
            raise conflict("feedback_batch_size", self.feedback_batch_size, f"at most max_feedback_buffer, {self.max_feedback_buffer}")
        return self
