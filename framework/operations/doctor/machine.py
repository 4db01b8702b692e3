"""Checks of the machine: Python, libraries, clock, disk, port."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zmq

from framework.model import NS_PER_S
from framework.operations.doctor.checks import FAIL, OK, WARN, Check, Patient, settings_of
from framework.operations.state_dir import StateDir

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


def python(_: Patient) -> Iterator[Check]:
    """Look at the version of Python."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MIN_PYTHON:
        yield Check(name="python", result=FAIL, detail=version, fix="install Python 3.11 or newer")
    else:
        yield Check(name="python", result=OK, detail=version)


def libraries(_: Patient) -> Iterator[Check]:
    """Look for every library that Tidebook needs, and at libzmq."""
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


def clock(patient: Patient) -> Iterator[Check]:
    """Compare the wall clock with the calendar, the files and the kernel."""
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


def disk(patient: Patient) -> Iterator[Check]:
    """Look at the room on the disk of the state directory."""
    existing = next(path for path in (patient.state_dir.absolute(), *patient.state_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    result = FAIL if free < NO_DISK_BYTES else WARN if free < LOW_DISK_BYTES else OK
    fix = "" if result == OK else "make room, or use another --state-dir"
    yield Check(name="disk", result=result, detail=f"{free / 1e9:,.1f} GB free at {existing}", fix=fix)


def port(patient: Patient) -> Iterator[Check]:
    """See whether the ML process can bind, or an external one answers."""
    settings = settings_of(patient).ml_service
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
