"""Commands while nothing runs: done on the journal itself, under the state directory's lock, by the rules of the running process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from framework.errors import ConfigError
from framework.logs import foreign
from framework.messages import TradingStateChanged
from framework.model import TradingState
from framework.operations import deployments
from framework.operations.deployments import UNCHANGED, Deployment, Plan
from framework.operations.state_dir import StateDir
from framework.operations.status import StrategyStatus
from framework.trading import journal as journals
from framework.trading.journal import Journal


@contextmanager
def open_journal(state_dir: Path) -> Iterator[Journal]:
    """Own the state directory and its journal for a moment. Raises `StartRefused` while a process runs there."""
    with StateDir(state_dir) as state:
        journal = Journal(state.journal)
        try:
            yield journal
        finally:
            journal.close()


def deploy(state_dir: Path, deployment: Deployment, now_ns: int, *, is_dry_run: bool) -> Plan:
    """Plan, and remember the deployment unless it is a dry run (which writes nothing, not even the directory) or unchanged."""
    if is_dry_run and not StateDir(state_dir).journal.is_file():
        return msgspec.structs.replace(deployments.plan(deployment, None), is_dry_run=True)
    with open_journal(state_dir) as journal:
        plan = deployments.plan(deployment, journal.deployments().get(deployment.file.name))
        if not is_dry_run and plan.kind != UNCHANGED:
            deployments.remember(journal, deployment, now_ns)
    return msgspec.structs.replace(plan, is_dry_run=is_dry_run)


def undeploy(state_dir: Path, name: str) -> None:
    """Forget a deployment. Raises `ConfigError` if there is none of that name."""
    with open_journal(state_dir) as journal:
        refuse_unknown(name, journal.deployments())
        journal.remove_deployment(name)


def strategies(state_dir: Path) -> tuple[StrategyStatus, ...]:
    """Return what the next start will run."""
    if not StateDir(state_dir).journal.is_file():
        return ()
    with open_journal(state_dir) as journal:
        return tuple(_stopped(stored) for stored in journal.deployments().values())


def set_trading_state(state_dir: Path, state: TradingState, reason: str, now_ns: int) -> TradingState:
    """Set the kill switch (HALTED) or clear it (ACTIVE), durably; return the state before."""
    with open_journal(state_dir) as journal:
        before = trading_state(journal).state
        if before is not state:
            change = TradingStateChanged(ts_event=now_ns, state=state, reason=reason)
            journal.append("TradingStateChanged", change, durable=True)
    return before


def trading_state(journal: Journal) -> TradingStateChanged:
    """Return the latest change of the trading state; ACTIVE where there was none."""
    latest = TradingStateChanged(ts_event=0, state=TradingState.ACTIVE, reason="")
    for record in journal.records("TradingStateChanged"):
        if isinstance(record.message, TradingStateChanged):
            latest = record.message
    return latest


def refuse_unknown(name: str, deployed: dict[str, journals.Deployment]) -> None:
    """Raise `ConfigError` unless `name` is deployed."""
    if name not in deployed:
        known = ", ".join(deployed) or "none"
        raise ConfigError(f"no strategy named {foreign(name, 80)} is deployed; deployed: {known}")


def _stopped(stored: journals.Deployment) -> StrategyStatus:
    try:
        file = deployments.recall(stored).file
    except ConfigError as exc:
        return StrategyStatus(name=stored.name, strategy="", instrument_id="", state="STOPPED", reason=str(exc).partition("\n")[0])
    return StrategyStatus(name=file.name, strategy=file.strategy, instrument_id=file.instrument_id, state="STOPPED")
