"""What the operator's commands do to the running process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from framework.errors import ConfigError, StartRefused, TidebookError
from framework.logs import foreign
from framework.model import TradingState
from framework.operations import deployments
from framework.operations.control import (
    AnyCommand,
    Deploy,
    GetLimits,
    GetStatus,
    Halt,
    ListStrategies,
    Models,
    Ping,
    ResolveOrder,
    Resume,
    Stop,
    TightenLimit,
    Train,
    Undeploy,
)
from framework.operations.deployments import UNCHANGED, Plan, read_deployment
from framework.operations.offline import refuse_unknown
from framework.operations.reporting import status_of, strategy_status
from framework.operations.trading_process import TradingProcess
from framework.operations.words import operators_word
from framework.trading.risk import LimitBook, Tightening

LOOKS: Final = (Ping, GetStatus, ListStrategies, GetLimits)
"""Commands that change nothing."""


class LimitInForce(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of the gate."""

    scope: str
    key: str
    value: str


LEARNING_TIMEOUT_S: Final = 1.0


class Commands:
    """Carry out control commands; a `TidebookError` is the answer to the caller, never a fault of the process."""

    def __init__(self, process: TradingProcess) -> None:
        self._process = process
        self._handlers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Ping: self._ping,
            GetStatus: self._status,
            ListStrategies: self._strategies,
            Deploy: self._deploy,
            Undeploy: self._undeploy,
            Stop: self._stop,
            Halt: self._halt,
            Resume: self._resume,
            Train: self._train,
            Models: self._models,
            GetLimits: self._limits,
            TightenLimit: self._tighten,
            ResolveOrder: self._resolve,
        }

    async def __call__(self, command: AnyCommand) -> Any:
        """Do `command` and return its result as JSON values."""
        self._process.pacer.catch_up()
        self._note(command)
        result = await self._handlers[type(command)](command)
        self._process.desk.bus.drain()
        return msgspec.to_builtins(result)

    def _note(self, command: AnyCommand) -> None:
        """Journal a command that changes something; of a deployment its digest, not its text."""
        if isinstance(command, LOOKS):
            return
        if isinstance(command, Deploy):
            command = msgspec.structs.replace(command, text=f"sha256:{hashlib.sha256(command.text.encode()).hexdigest()}")
        body = msgspec.json.encode(command).decode()
        self._process.desk.execution.note_command(type(command).__name__, body)

    async def _ping(self, _: Ping) -> Any:
        return {"pid": os.getpid()}

    async def _status(self, _: GetStatus) -> Any:
        status = status_of(self._process)
        return msgspec.structs.replace(status, ml=msgspec.structs.replace(status.ml, learning=await self._learning()))

    async def _learning(self) -> dict[str, Any]:
        """Return what the ML process says about trials and drift, or nothing if it does not answer soon."""
        client = self._process.client
        if client is None or not client.is_up:
            return {}
        try:
            async with asyncio.timeout(LEARNING_TIMEOUT_S):
                return dict((await client.status()).get("learning") or {})
        except (TimeoutError, TidebookError):
            return {}

    async def _strategies(self, _: ListStrategies) -> Any:
        return tuple(strategy_status(self._process, hosted) for hosted in self._process.host.hosted.values())

    async def _deploy(self, command: Deploy) -> Plan:
        process = self._process
        # In a thread: importing a strategy may take long, and its module's code is the user's.
        deployment = await asyncio.to_thread(read_deployment, command.text, command.path)
        process.pacer.catch_up()
        process.host.check(deployment.file)
        name = deployment.file.name
        plan = deployments.plan(deployment, process.desk.journal.deployments().get(name))
        hosted = process.host.hosted.get(name)
        is_running = hosted is not None and hosted.state == "RUNNING"
        if command.dry_run or (plan.kind == UNCHANGED and is_running):
            return msgspec.structs.replace(plan, is_running=is_running, is_dry_run=command.dry_run)
        deployments.remember(process.desk.journal, deployment, process.desk.clock.now_ns())
        process.host.start(deployment)
        return msgspec.structs.replace(plan, is_running=True)

    async def _undeploy(self, command: Undeploy) -> Any:
        refuse_unknown(command.name, self._process.desk.journal.deployments())
        self._process.desk.journal.remove_deployment(command.name)
        self._process.host.forget(command.name)
        return {"undeployed": command.name}

    async def _stop(self, _: Stop) -> Any:
        self._process.stop("stopped by the operator")
        return {"stopping": True}

    async def _halt(self, command: Halt) -> Any:
        self._process.desk.execution.set_state(TradingState.HALTED, foreign(command.reason))
        if command.flatten:
            self._process.desk.execution.flatten(foreign(command.reason))
        return {"trading_state": TradingState.HALTED}

    async def _resume(self, command: Resume) -> Any:
        if not command.confirm:
            raise ConfigError("resume lets strategies trade again; say so with --confirm")
        self._process.desk.execution.set_state(TradingState.ACTIVE, "resumed by the operator")
        return {"trading_state": TradingState.ACTIVE}

    async def _limits(self, _: GetLimits) -> Any:
        return tuple(LimitInForce(scope=scope, key=key, value=str(value)) for scope, key, value in self._gate_limits().table())

    async def _tighten(self, command: TightenLimit) -> Any:
        self._process.desk.execution.tighten(Tightening(scope=command.scope, key=command.key, value=command.value))
        return LimitInForce(scope=command.scope, key=command.key, value=command.value)

    def _gate_limits(self) -> LimitBook:
        return self._process.desk.execution.gate.limits

    async def _resolve(self, command: ResolveOrder) -> Any:
        if not command.confirm:
            raise ConfigError("resolve-order ends an order on your word, not the venue's; say so with --confirm")
        execution = self._process.desk.execution
        for report in operators_word(execution, command, self._process.desk.clock.now_ns()):
            execution.resolve(report)
        return {"resolved": command.client_order_id}

    async def _train(self, command: Train) -> Any:
        if self._process.client is None or not self._process.client.is_up:
            raise StartRefused("the ML process is not up; see: main.py status")
        self._process.samples.train_now(foreign(command.reason), command.refit)
        return {"started": True}

    async def _models(self, command: Models) -> Any:
        if self._process.client is None or not self._process.client.is_up:
            raise StartRefused("the ML process is not up; see: main.py status")
        reply = await self._process.client.models(
            command.action, command.version_id or "", other_id=command.other_id or "", reason=foreign(command.reason)
        )
        return {"champion": reply.champion, "versions": reply.versions, "facts": reply.facts}
