"""The trading side of the ML process: keep it alive, keep the client connected, say how it is."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from framework.config import MLServiceConfig, StrategyFile
from framework.errors import ConfigError, IntegrityError, StartRefused, StorageError
from framework.inference.client import MLClient, Transport
from framework.kernel.child_process import ChildPolicy, ChildProcess, ChildState
from framework.kernel.spawn import finding_us

log = logging.getLogger("MLService")

REFUSAL_CODES: Final = frozenset({ConfigError.exit_code, StartRefused.exit_code, StorageError.exit_code, IntegrityError.exit_code})


class LinkTransport(Transport, Protocol):
    """A transport that can be told where the ML process is."""

    def connect(self, endpoint: str) -> None:
        """Connect to `endpoint`, leaving the present peer."""


class MLLink:
    """One ML process (spawned, or external) and the client that talks to it.

    `start` returns at once; the client reports the service as up when it answers. A spawned process that dies or hangs is
    replaced; a service that runs elsewhere is only connected to. `is_lockstep`: market time waits for its
    replies. `refused` is set when the process says that it must not
    start, `given_up` when there is no point in waiting for it: its restarts are used up, or nobody answers elsewhere.
    """

    def __init__(
        self,
        settings: MLServiceConfig,
        *,
        client: MLClient,
        transport: LinkTransport,
        config_path: Path | None,
        state_dir: Path,
        is_lockstep: bool = False,
        on_child: Callable[[ChildState, str], None] = lambda _state, _detail: None,
    ) -> None:
        self._settings = settings
        self.client = client
        self._transport = transport
        self._on_child = on_child
        self._is_client_started = False
        self._log_path = state_dir / "ml.log"
        self.refused = asyncio.Event()
        self.given_up = asyncio.Event()
        self.child = ChildProcess(
            service_argv(config_path, state_dir, is_lockstep=is_lockstep),
            policy=ChildPolicy(
                heartbeat_interval_s=settings.heartbeat_interval_s,
                heartbeat_misses=settings.heartbeat_misses,
                max_restarts=settings.max_restarts,
                restart_window_s=settings.restart_window_s,
            ),
            env=child_environment(os.environ),
            on_ready=self._on_ready,
            on_state=self._on_state,
            log_path=self._log_path,
        )

    def refusal(self) -> str:
        """Return why the process refused to start (`refused` is set then): the last error in its log."""
        lines = self._log_path.read_text(errors="replace").splitlines() if self._log_path.is_file() else []
        errors = [line.rpartition(" | ")[2] for line in lines if " | ERROR | " in line]
        return errors[-1] if errors else f"exit code {self.child.early_exit_code}; see {self._log_path}"

    def start(self) -> None:
        """Start the child (mode `spawn`) and the client; with a child, the client starts when that is ready."""
        if self._settings.mode == "spawn":
            self.child.start()
        else:
            self._start_client()
            self._transport.connect(f"tcp://{self._settings.client.host}:{self._settings.client.port}")

    async def stop(self) -> None:
        """Stop the client, then the child."""
        await self.client.close()
        if self._settings.mode == "spawn":
            await self.child.stop()

    def _start_client(self) -> None:
        if not self._is_client_started:
            self._is_client_started = True
            self.client.start()

    def note_down(self) -> None:
        """Note that the client hears nothing: of a service that runs elsewhere, there is no point in waiting for it."""
        if self._settings.mode != "spawn":
            self.given_up.set()

    def heard(self) -> None:
        """Note a sign of life from the service."""
        if self.child.state is ChildState.READY:
            self.child.heard()

    def _on_ready(self, ready: Mapping[str, Any]) -> None:
        log.info("ML service is ready at %s (model %s)", ready.get("endpoint"), ready.get("model_version") or "none yet")
        self._start_client()
        self._transport.connect(str(ready["endpoint"]))

    def _on_state(self, state: ChildState, detail: str) -> None:
        if state in (ChildState.BACKOFF, ChildState.FAILED):
            log.warning("ML service %s", detail)
            self.client.peer_lost(detail)
            if not self._is_client_started and self.child.early_exit_code in REFUSAL_CODES:
                self.refused.set()
            elif state is ChildState.FAILED:
                self.given_up.set()
        self._on_child(state, detail)


class Clients:
    """The client that each strategy uses: the shared one, or its own where its `ml_service` block says otherwise.

    A strategy's own client goes to the host and port of its block (what the block leaves open is as in `main.yaml`); strategies with
    the same block share it. `make(settings)` builds a client and its transport. Without a shared client there is no ML at all.
    """

    def __init__(
        self, settings: MLServiceConfig, shared: MLClient | None, make: Callable[[MLServiceConfig], tuple[MLClient, LinkTransport]]
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._make = make
        self._own: dict[MLServiceConfig, MLClient] = {}

    def for_strategy(self, file: StrategyFile) -> MLClient | None:
        """Return the client for a strategy; its own is started here."""
        settings = self._overridden(file)
        if self._shared is None or settings == self._settings:
            return self._shared
        if settings not in self._own:
            client, transport = self._make(settings)
            client.start()
            transport.connect(f"tcp://{settings.client.host}:{settings.client.port}")
            self._own[settings] = client
        return self._own[settings]

    async def close(self) -> None:
        """Close the strategies' own clients."""
        for client in self._own.values():
            await client.close()

    def _overridden(self, file: StrategyFile) -> MLServiceConfig:
        if file.ml_service is None:
            return self._settings
        given = file.ml_service.model_dump(exclude_none=True)
        given.pop("timeout", None)  # the analyzer's: it needs no client of its own
        where: dict[str, Any] = {name: given.pop(name) for name in ("host", "port") if name in given}
        client = self._settings.client.model_copy(update=where)
        return self._settings.model_copy(update={**given, "client": client})


def service_argv(config_path: Path | None, state_dir: Path, *, is_lockstep: bool = False) -> tuple[str, ...]:
    """Return the command line that runs the ML process as our child."""
    config = ("--config", str(config_path)) if config_path is not None else ()
    lockstep = ("--lockstep",) if is_lockstep else ()
    return (sys.executable, "-m", "ml_actor", *config, "--state-dir", str(state_dir), "--ready-line", *lockstep)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ML process: ours, with one thread per numerical library, so that trading keeps a core."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
    return finding_us(environ) | threads
