"""The doctor: each complaint can happen, and comes with the way out."""

from __future__ import annotations

import io
import os
import socket
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from framework.operations.doctor import FAIL, OK, WARN, Check, Patient, checks_table, examine, is_healthy, machine
from framework.operations.state_dir import StateDir
from framework.trading.journal import Journal

NOW_NS = time.time_ns()


@pytest.fixture
def patient(tmp_path: Path) -> Callable[..., Patient]:
    def make(config: str | None = "ml_service: {server: {port: 0}}", **options: Any) -> Patient:
        path = None
        if config is not None:
            path = tmp_path / "main.yaml"
            path.write_text(config)
        return Patient(
            **{"config_path": path, "state_dir": tmp_path / "state", "now_ns": NOW_NS, "strategies_dir": tmp_path / "none", **options}
        )

    return make


def found(patient: Patient, name: str) -> Check:
    (check,) = [check for check in examine(patient) if check.name == name]
    return check


def test_a_fresh_checkout_is_healthy(patient: Callable[..., Patient]) -> None:
    checks = examine(patient())

    assert is_healthy(checks)
    assert [check for check in checks if check.result == FAIL] == []
    assert found(patient(), "state directory").detail.endswith("state will be created")
    assert found(patient(), "model").result == WARN


def test_every_complaint_has_a_way_out(patient: Callable[..., Patient], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)

    complaints = [check for check in examine(patient("risk: 1")) if check.result != OK]

    assert {check.name for check in complaints} >= {"config", "state directory", "model"}
    assert all(check.fix for check in complaints)
    assert not is_healthy(tuple(complaints))


def test_a_wrong_config_is_named_with_its_line(patient: Callable[..., Patient], tmp_path: Path) -> None:
    check = found(patient("risk: {max_position: 0}"), "config")

    assert (check.result, check.detail) == (
        FAIL,
        f"{tmp_path}/main.yaml:1:22: risk.max_position: found 0; allowed a whole number from 1 to 1000000000",
    )
    assert found(patient(None), "config").detail == "no file, the defaults rule"


def test_each_strategy_file_is_checked(patient: Callable[..., Patient], tmp_path: Path) -> None:
    good = "name: a\nstrategy: strategies.ml_futures:MLFuturesStrategy\ninstrument_id: TIDE.SIM\n"
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "bad.yaml").write_text(good + "parameters: {levels: 99}")
    here = patient(None, strategies_dir=tmp_path)

    assert found(here, "strategy good.yaml").result == OK
    assert found(here, "strategy bad.yaml").result == FAIL
    assert "bad.yaml:4:22: parameters.levels: found 99" in found(here, "strategy bad.yaml").detail


def test_missing_libraries_are_named(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REQUIRED", ("pyzmq", "no-such-library"))

    assert found(patient(), "libraries") == Check(
        name="libraries", result=FAIL, detail="not installed: no-such-library", fix="pip install -c constraints.txt -e ."
    )


def test_an_old_python_and_an_old_libzmq_are_refused(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MIN_PYTHON", (99, 0))
    monkeypatch.setattr(machine, "MIN_ZMQ", (99, 0))

    assert (found(patient(), "python").result, found(patient(), "libzmq").result) == (FAIL, FAIL)


def test_a_clock_before_2024_is_refused_and_one_behind_the_files_is_noted(patient: Callable[..., Patient], tmp_path: Path) -> None:
    assert found(patient(now_ns=0), "clock").result == FAIL
    StateDir(tmp_path / "state").create()
    (tmp_path / "state" / "journal.sqlite-wal").touch()
    os.utime(tmp_path / "state" / "journal.sqlite-wal", (NOW_NS / 1e9 + 3_600, NOW_NS / 1e9 + 3_600))

    check = found(patient(), "clock")

    assert check.result == WARN
    assert "3,600 s behind the newest file" in check.detail


@pytest.mark.parametrize(("is_synchronized", "result"), [(True, OK), (False, WARN)])
def test_the_kernel_is_asked_about_the_clock(
    patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch, is_synchronized: bool, result: str
) -> None:
    monkeypatch.setattr(machine, "_is_synchronized", lambda: is_synchronized)

    assert found(patient(), "clock").result == result


def test_the_kernel_can_be_asked() -> None:
    assert machine._is_synchronized() in {True, False}


@pytest.mark.parametrize(("free", "result"), [(100_000_000, FAIL), (1_000_000_000, WARN), (50_000_000_000, OK)])
def test_a_disk_that_is_nearly_full_is_noted(
    patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch, free: int, result: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage(10**12, 0, free))

    assert found(patient(), "disk").result == result


def test_a_port_in_use_is_refused(patient: Callable[..., Patient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = f"ml_service: {{client: {{port: {port}}}, server: {{port: {port}}}}}"
        check = found(patient(config), "port")

    assert (check.result, check.detail) == (FAIL, f"127.0.0.1:{port}: Address already in use")
    assert "ml_service.server.port: 0" in check.fix
    assert found(patient(config), "port").result == OK


def test_a_host_that_is_not_ours_is_refused(patient: Callable[..., Patient]) -> None:
    check = found(patient("ml_service: {server: {host: 192.0.2.1, port: 5556}}"), "port")

    assert (check.result, check.fix) == (FAIL, "correct ml_service.server.host")


def test_an_external_service_is_called(patient: Callable[..., Patient]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        config = f"ml_service: {{mode: external, client: {{port: {port}}}}}"
        assert found(patient(config), "ML service").result == OK
    assert found(patient(config), "ML service").result == WARN
    assert found(patient("ml_service: {mode: off}"), "ML service").detail == "off"


def test_the_lock_is_told_apart(patient: Callable[..., Patient], tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with state:
        assert found(patient(), "lock").detail == f"held by process {os.getpid()}: the framework runs"
        Journal(state.journal).close()
        assert found(patient(), "journal").detail.startswith("in use")
    assert found(patient(), "lock").detail == "free"
    state.lock_file.write_text("4711\n")
    assert "process 4711 died without unlocking" in found(patient(), "lock").detail


def test_a_journal_is_verified(patient: Callable[..., Patient], tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state").create()
    assert found(patient(), "journal").detail == "none yet"
    Journal(state.journal).close()
    assert found(patient(), "journal").detail == "0 records, the hash chain holds"
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (state.path / name).unlink(missing_ok=True)
    state.journal.write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    assert found(patient(), "journal").result == FAIL


def test_training_data_is_read(patient: Callable[..., Patient], tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state").create()
    assert found(patient(), "training data").detail == "none yet"
    state.dataset.mkdir()
    assert found(patient(), "training data").result == OK
    (state.dataset / "part-0.parquet").write_bytes(b"rubbish")
    check = found(patient(), "training data")
    assert check.result == WARN
    assert "part-0.parquet is not in the manifest" in check.detail
    (state.dataset / "_manifest.json").write_text("rubbish")
    assert found(patient(), "training data").result == FAIL


def test_the_champion_has_to_be_there(patient: Callable[..., Patient], tmp_path: Path) -> None:
    models = StateDir(tmp_path / "state").create().models
    models.mkdir()
    (models / "champion.json").write_text('{"champion": "v0001-aaaaaaaa"}')
    check = found(patient(), "model")
    assert (check.result, check.fix) == (FAIL, "main.py models rollback, or main.py train")
    (models / "v0001-aaaaaaaa").mkdir()
    (models / "v0001-aaaaaaaa" / "manifest.json").write_text("{}")
    assert found(patient(), "model").detail == "v0001-aaaaaaaa serves"
    (models / "champion.json").write_text("[]")
    assert found(patient(), "model").result == FAIL


def test_recordings_are_opened(patient: Callable[..., Patient], recordings: Path) -> None:
    path = next((recordings / "shfe_rb_l2").glob("*.parquet"))
    check = found(patient(market=(str(path),)), "recordings")

    assert (check.result, check.detail) == (OK, "1 can be replayed: rb2510.SHFE")


def test_what_is_no_recording_is_refused(patient: Callable[..., Patient], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b,c")
    check = found(patient(market=(str(tmp_path / "bad.csv"),)), "recordings")

    assert check.result == FAIL
    assert "bad.csv: begins with b'a,b," in check.detail


def test_the_simulated_market_is_no_recording(patient: Callable[..., Patient]) -> None:
    assert [check for check in examine(patient(market=("simulated",))) if check.name == "recordings"] == []


def test_the_table_shows_result_and_fix() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(checks_table((Check(name="disk\x1b", result=FAIL, detail="no\x1b[31m", fix="make room"),)))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "fix: make room" in text
    assert "\x1b[31m" not in text
