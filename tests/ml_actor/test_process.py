"""The ML process as its parent sees it: a real child, real sockets."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
import zmq

from framework.dataset import DatasetWriter
from framework.model import Instrument
from ml_actor.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"order_events": [], "market_data": {}, "order_book": {"bids": [[18520.0, 5]], "asks": [[18520.25, 3]]}}


class Running:
    """One child and a client of it."""

    def __init__(self, *arguments: str, state_dir: Path, code: str | None = None) -> None:
        start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "ml_actor"]
        self.process = subprocess.Popen(
            [*start, "--state-dir", str(state_dir), "--ready-line", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ready(self, within_s: float = 60.0) -> dict[str, Any]:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], within_s)
        assert readable, "no ready line"
        line = json.loads(self.process.stdout.readline())
        assert isinstance(line, dict)
        return line

    def ended(self) -> tuple[int, str, str]:
        """Close its stdin and wait for its end."""
        output, errors = self.process.communicate(timeout=20)
        return self.process.returncode, output, errors


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[Running] = []

    def begin(*arguments: str, state_dir: Path | None = None, code: str | None = None) -> Running:
        running.append(Running(*arguments, state_dir=state_dir or tmp_path / "state", code=code))
        return running[-1]

    yield begin
    for one in running:
        one.process.kill()
        one.process.communicate()


def ask(endpoint: str, request: dict[str, Any]) -> dict[str, Any]:
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.linger = 0
        peer.rcvtimeo = 20_000
        peer.connect(endpoint)
        peer.send(json.dumps(request).encode())
        reply = json.loads(peer.recv())
        assert isinstance(reply, dict)
        return reply


def test_it_says_where_it_is_ready_answers_and_ends_with_its_stdin(start: Any) -> None:
    running = start("--port", "0")
    ready = running.ready()

    reply = ask(ready["endpoint"], REQUEST)
    code, output, errors = running.ended()

    assert ready["ready"] is True
    assert ready["endpoint"].startswith("tcp://127.0.0.1:")
    assert reply["error"]["code"] == "NO_MODEL"
    assert (code, output) == (0, "")
    assert " | INFO | MLService | ML service listens at tcp://127.0.0.1:" in errors


def test_a_signal_ends_it_in_order(start: Any) -> None:
    running = start("--port", "0")
    running.ready()

    running.process.send_signal(signal.SIGTERM)
    code = running.process.wait(20)
    _, _, errors = running.ended()

    assert code == 0
    assert "ML service stops" in errors
    assert "Traceback" not in errors


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent_code = """
import subprocess, sys
arguments = ["-m", "ml_actor", "--port", "0", "--state-dir", sys.argv[1], "--ready-line"]
subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE).wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child = psutil.Process(json.loads(parent.stdout.readline())["pid"])

    parent.kill()
    parent.communicate()

    child.wait(5)


def test_the_serving_process_loads_no_learning_library(start: Any, models_copy: Registry, trained: Any) -> None:
    models_copy.promote(trained.result.version)
    libraries = ("sklearn", "lightgbm", "hmmlearn", "pandas", "polars", "ml_actor.training", "framework.kernel", "framework.app")
    code = f"""
import sys
from ml_actor.__main__ import main
code = main(sys.argv[1:])
print([name for name in {libraries!r} if name in sys.modules])
"""
    running = start("--port", "0", state_dir=models_copy.directory.parent, code=code)
    ready = running.ready()

    reply = ask(ready["endpoint"], REQUEST)
    exit_code, output, _ = running.ended()

    assert ready["model_version"] == trained.result.version == reply["model_version"]
    assert sum(reply["probabilities"].values()) == pytest.approx(1.0)
    assert (exit_code, output.strip()) == (0, "[]")


def test_a_damaged_champion_is_passed_over_and_said_so(start: Any, models_copy: Registry, trained: Any) -> None:
    models_copy.promote(trained.result.version)
    path = models_copy.directory / trained.result.version / "linear.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    running = start("--port", "0", state_dir=models_copy.directory.parent)
    ready = running.ready()
    _, _, errors = running.ended()

    assert ready["model_version"] == ""
    assert f"Model {trained.result.version} is not used" in errors


def config_file(tmp_path: Path, **server: Any) -> str:
    path = tmp_path / "main.yaml"
    path.write_text(yaml.safe_dump({"ml_service": {"mode": "external", "server": server}}))
    return str(path)


def test_a_bind_to_every_interface_without_keys_is_refused(start: Any, tmp_path: Path) -> None:
    code, output, errors = start("--config", config_file(tmp_path, host="0.0.0.0")).ended()

    assert (code, output) == (3, "")
    assert "0.0.0.0" in errors
    assert "curve" in errors


def test_a_port_in_use_is_refused_by_name(start: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, _, errors = start("--port", str(port)).ended()

    assert code == 3
    assert f"127.0.0.1:{port}" in errors


def test_an_unknown_key_in_its_config_is_refused(start: Any, tmp_path: Path) -> None:
    code, _, errors = start("--config", config_file(tmp_path, hots="127.0.0.1")).ended()

    assert code == 2
    assert "hots" in errors


def test_a_damaged_feedback_database_is_refused_by_name(start: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "ml_feedback.sqlite").write_bytes(b"no database" * 1_000)

    code, _, errors = start("--port", "0").ended()

    assert code == 6
    assert "ml_feedback.sqlite" in errors


def test_a_state_directory_that_others_may_write_to_is_refused(start: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)

    code, _, errors = start("--port", "0").ended()

    assert code == 2
    assert "chmod 700" in errors


def test_an_ipc_socket_in_the_state_directory_works(start: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"

    ready = start("--ipc", str(state / "ml.sock")).ready()

    assert ask(ready["endpoint"], {"type": "ping"})["state"] == "NO_MODEL"


def test_a_training_that_is_refused_shows_in_the_status_and_the_service_goes_on(start: Any) -> None:
    endpoint = start("--port", "0").ready()["endpoint"]

    accepted = ask(endpoint, {"type": "train", "reason": "too early"})
    deadline = time.monotonic() + 60
    while (status := ask(endpoint, {"type": "status"})["status"])["state"] == "TRAINING":
        assert time.monotonic() < deadline
        time.sleep(0.1)

    job = status["training"]["job"]
    assert (accepted["is_new"], job["job_id"], job["reason"]) == (True, accepted["job_id"], "too early")
    assert job["state"] == "REFUSED", job
    assert ask(endpoint, {"type": "ping"})["state"] == "NO_MODEL"


def test_a_training_runs_beside_the_predictions_and_its_version_serves_from_the_next_request_on(
    start: Any, tmp_path: Path, make_market: Any
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    writer = DatasetWriter(state / "training_data.parquet")
    writer.append(Instrument(instrument_id="ES.SIM", tick_size=Decimal("0.25")), make_market(8_000, seed=11, signal=3.0))
    writer.seal()
    writer.close()
    (tmp_path / "main.yaml").write_text(yaml.safe_dump({"training": {"min_rows": 500, "horizon_rows": 10}}))
    endpoint = start("--config", str(tmp_path / "main.yaml"), "--port", "0", state_dir=state).ready()["endpoint"]

    accepted = ask(endpoint, {"type": "train", "reason": "first"})
    repeated = ask(endpoint, {"type": "train", "reason": "again"})
    deadline = time.monotonic() + 90
    answers = [ask(endpoint, REQUEST)]
    while ask(endpoint, {"type": "ping"})["is_training"]:
        assert time.monotonic() < deadline
        answers.append(ask(endpoint, REQUEST))
    job = ask(endpoint, {"type": "status"})["status"]["training"]["job"]
    listed = ask(endpoint, {"type": "models"})

    assert (accepted["is_new"], repeated["is_new"], repeated["job_id"]) == (True, False, accepted["job_id"])
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {"NO_MODEL"}
    assert job["state"] == "DONE", job
    assert listed["champion"] == job["version"] == ask(endpoint, REQUEST)["model_version"]
