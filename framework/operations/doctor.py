"""`doctor`: what would keep Tidebook from starting, trading or learning here, each with the way out."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import zmq
from rich.table import Table
from rich.text import Text

from framework.config import MainConfig
from framework.dataset.reader import read_dataset
from framework.errors import TidebookError
from framework.logs import foreign
from framework.model import NS_PER_S
from framework.operations import deployments
from framework.operations.offline import open_journal
from framework.operations.state_dir import StateDir
from framework.strict_yaml import load_main_config, read_text

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

MIN_PYTHON: Final = (3, 11)
MIN_ZMQ: Final = (4, 3)
REQUIRED: Final = (
    *("hmmlearn", "joblib", "lightgbm", "msgspec", "numba", "numpy", "polars", "pyarrow"),
    *("pydantic", "PyYAML", "pyzmq", "rich", "scikit-learn", "treelite", "typer", "uvloop"),
)
LOW_DISK_BYTES: Final = 2_000_000_000
NO_DISK_BYTES: Final = 200_000_000
TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized
EARLIEST_S: Final = 1_704_067_200  # 2024-01-01 UTC


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check: `result` is ok, warn (it works, but) or fail; `fix` is the way out."""

    name: str
    result: str
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is looked at. `now_ns` is the wall time, ns UTC; `open_market` opens recordings and raises where it cannot."""

    config_path: Path | None
    state_dir: Path
    now_ns: int
    strategies_dir: Path = Path("config/strategies")
    market: tuple[str, ...] = ()
    open_market: Callable[[tuple[Path, ...]], str] | None = None


def examine(patient: Patient) -> tuple[Check, ...]:
    """Run every check, in the order in which they matter to a start. Changes nothing."""
    return tuple(check for step in _STEPS for check in step(patient))


def is_healthy(checks: tuple[Check, ...]) -> bool:
    """Return whether nothing failed."""
    return all(check.result != FAIL for check in checks)


def checks_table(checks: tuple[Check, ...]) -> Table:
    """Return the checks as a table for a terminal."""
    styles = {OK: "green", WARN: "yellow", FAIL: "red"}
    table = Table(title="Doctor", title_justify="left")
    for column in ("check", "result", "found"):
        table.add_column(column, overflow="fold")
    for check in checks:
        found = Text(foreign(check.detail, 1_000))
        if check.fix:
            found.append(f"\nfix: {foreign(check.fix, 1_000)}", style="bold")
        table.add_row(check.name, Text(check.result, style=styles[check.result]), found)
    return table


# --- the machine -----------------------------------------------------------------------------------------------------------


def _python(_: Patient) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MIN_PYTHON:
        yield Check(name="python", result=FAIL, detail=version, fix="install Python 3.11 or newer")
    else:
        yield Check(name="python", result=OK, detail=version)


def _libraries(_: Patient) -> Iterator[Check]:
    missing = [name for name in REQUIRED if not _is_installed(name)]
    if missing:
        yield Check(name="libraries", result=FAIL, detail=f"not installed: {', '.join(missing)}", fix="pip install -c constraints.txt -e .")
    else:
        yield Check(name="libraries", result=OK, detail=f"{len(REQUIRED)} installed")
    version = zmq.zmq_version()
    if zmq.zmq_version_info()[:2] < MIN_ZMQ:
        yield Check(name="libzmq", result=FAIL, detail=version, fix="pip install --upgrade pyzmq")
    else:
        curve = "with" if zmq.has("curve") else "without"
        yield Check(name="libzmq", result=OK, detail=f"{version}, {curve} CURVE")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _clock(patient: Patient) -> Iterator[Check]:
    now_s = patient.now_ns / NS_PER_S
    newest_s = max((path.stat().st_mtime for path in _files(patient.state_dir)), default=0.0)
    if now_s < EARLIEST_S:
        yield Check(name="clock", result=FAIL, detail="it stands before 2024", fix="set the clock, for example with an NTP service")
    elif newest_s > now_s + 1:
        behind = f"it is {newest_s - now_s:,.0f} s behind the newest file in {patient.state_dir}"
        yield Check(name="clock", result=WARN, detail=behind, fix="set the clock, for example with an NTP service")
    elif not _is_synchronized():
        yield Check(name="clock", result=WARN, detail="the kernel does not call it synchronized", fix="run an NTP service")
    else:
        yield Check(name="clock", result=OK, detail="synchronized")


def _files(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from (entry for entry in directory.iterdir() if entry.is_file())


def _is_synchronized() -> bool:
    """Ask the kernel (adjtimex(2) with no change). True where it cannot be asked."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return True
    return state != TIME_ERROR


def _disk(patient: Patient) -> Iterator[Check]:
    existing = next(path for path in (patient.state_dir.absolute(), *patient.state_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    result = FAIL if free < NO_DISK_BYTES else WARN if free < LOW_DISK_BYTES else OK
    fix = "" if result == OK else "make room, or use another --state-dir"
    yield Check(name="disk", result=result, detail=f"{free / 1e9:,.1f} GB free at {existing}", fix=fix)


# --- the files -------------------------------------------------------------------------------------------------------------


def _config(patient: Patient) -> Iterator[Check]:
    yield _checked("config", lambda: _config_detail(patient.config_path), "correct the file; docs/configuration.md lists the keys")
    for path in sorted(patient.strategies_dir.glob("*.yaml")):
        yield _checked(f"strategy {path.name}", lambda path=path: _strategy_detail(path), "correct the file or its strategy")  # type: ignore[misc]


def _config_detail(path: Path | None) -> str:
    if path is None:
        return "no file, the defaults rule"
    load_main_config(path)
    return str(path)


def _strategy_detail(path: Path) -> str:
    deployment = deployments.read_deployment(read_text(path), str(path))
    return f"{deployment.file.strategy} on {deployment.file.instrument_id}"


def _checked(name: str, look: Callable[[], str], fix: str) -> Check:
    """Return OK with what `look` says, or FAIL with what it raises."""
    try:
        return Check(name=name, result=OK, detail=look())
    except (TidebookError, OSError) as exc:
        return Check(name=name, result=FAIL, detail=str(exc), fix=fix)


def _state_dir(patient: Patient) -> Iterator[Check]:
    state = StateDir(patient.state_dir)
    if not patient.state_dir.exists():
        yield Check(name="state directory", result=OK, detail=f"{patient.state_dir} will be created")
        return
    check = _checked("state directory", lambda: _state_detail(state), "correct its owner and mode, or use another --state-dir")
    yield check
    if check.result == OK:
        yield _lock(state)


def _state_detail(state: StateDir) -> str:
    state.check()
    return str(state.path)


def _lock(state: StateDir) -> Check:
    owner = state.last_owner()
    if state.is_locked():
        return Check(name="lock", result=OK, detail=f"held by process {owner}: the framework runs")
    if owner is not None:
        return Check(
            name="lock", result=OK, detail=f"process {owner} died without unlocking; the kernel has done it, the next start recovers"
        )
    return Check(name="lock", result=OK, detail="free")


def _journal(patient: Patient) -> Iterator[Check]:
    state = StateDir(patient.state_dir)
    if not state.journal.is_file():
        yield Check(name="journal", result=OK, detail="none yet")
    elif state.is_locked():
        yield Check(name="journal", result=OK, detail="in use; stop the framework to have its hash chain checked")
    else:
        yield _checked("journal", lambda: _journal_detail(patient.state_dir), "restore it from a backup, or move it away to start afresh")


def _journal_detail(state_dir: Path) -> str:
    with open_journal(state_dir) as journal:
        return f"{journal.verify():,} records, the hash chain holds"


def _dataset(patient: Patient) -> Iterator[Check]:
    directory = StateDir(patient.state_dir).dataset
    fix = "move the directory away to begin a new one, or restore the named parts"
    if not directory.is_dir():
        yield Check(name="training data", result=OK, detail="none yet")
        return
    check = _checked("training data", lambda: _dataset_detail(directory, _settings(patient).training.max_rows), fix)
    yield check if "; refused: " not in check.detail else msgspec.structs.replace(check, result=WARN, fix=fix)


def _dataset_detail(directory: Path, max_rows: int) -> str:
    found = read_dataset(directory, max_rows=max_rows)
    refused = f"; refused: {'; '.join(str(part) for part in found.refused)}" if found.refused else ""
    return f"{found.total_rows:,} rows of {len(found.instruments)} instruments can be read{refused}"


def _model(patient: Patient) -> Iterator[Check]:
    pointers = sorted(StateDir(patient.state_dir).models.glob("**/champion.json"))
    if not pointers:
        fix = "nothing to do: strategies use their default behaviour until the first training (main.py train)"
        yield Check(name="model", result=WARN, detail="none trained yet", fix=fix)
    for pointer in pointers:
        yield _checked("model", lambda pointer=pointer: _champion(pointer), "main.py models rollback, or main.py train")  # type: ignore[misc]


def _champion(pointer: Path) -> str:
    try:
        version = str(msgspec.json.decode(pointer.read_bytes())["champion"])
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise TidebookError(f"{pointer} names no version") from exc
    if not (pointer.parent / version / "manifest.json").is_file():
        raise TidebookError(f"{pointer} names {foreign(version, 60)}, which is not there")
    return f"{foreign(version, 60)} serves"


def _recordings(patient: Patient) -> Iterator[Check]:
    paths = tuple(Path(name) for name in patient.market if name != "simulated")
    if paths and patient.open_market is not None:
        open_market = patient.open_market
        yield _checked("recordings", lambda: open_market(paths), "main.py start --help lists the formats")


# --- the network -----------------------------------------------------------------------------------------------------------


def _port(patient: Patient) -> Iterator[Check]:
    settings = _settings(patient).ml_service
    if settings.mode == "off":
        yield Check(name="ML service", result=OK, detail="off")
    elif settings.mode == "external":
        yield _reachable(settings.client.host, settings.client.port)
    elif settings.server.port == 0 or StateDir(patient.state_dir).is_locked():
        yield Check(
            name="port", result=OK, detail="any free one" if settings.server.port == 0 else f"{settings.server.port}, the framework runs"
        )
    else:
        yield _free(settings.server.host, settings.server.port)


def _reachable(host: str, port: int) -> Check:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError as exc:
        return Check(
            name="ML service",
            result=WARN,
            detail=f"{host}:{port} does not answer: {exc}",
            fix="start it: main.py ml-service, or use mode: spawn",
        )
    return Check(name="ML service", result=OK, detail=f"{host}:{port} answers")


def _free(host: str, port: int) -> Check:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(found[0], found[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as exc:
        taken = exc.errno == errno.EADDRINUSE
        fix = "stop the other process, or set ml_service.server.port: 0" if taken else "correct ml_service.server.host"
        return Check(name="port", result=FAIL, detail=f"{host}:{port}: {exc.strerror or exc}", fix=fix)
    return Check(name="port", result=OK, detail=f"{host}:{port} is free")


def _settings(patient: Patient) -> MainConfig:
    """Return the configuration, or the defaults where the file is wrong (which is a check of its own)."""
    try:
        return MainConfig() if patient.config_path is None else load_main_config(patient.config_path)
    except TidebookError:
        return MainConfig()


_STEPS: Final = (_python, _libraries, _clock, _disk, _config, _state_dir, _port, _journal, _dataset, _model, _recordings)
