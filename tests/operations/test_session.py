"""A start and the ML process of another machine: away, behind keys, or with other keys. Real processes and sockets."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.operations.curve_keys import create_keys

ROOT = Path(__file__).resolve().parents[2]
MAIN = str(ROOT / "main.py")


def start(folder: Path, config: str) -> tuple[dict[str, Any], str]:
    """Run 20 s of the simulated market and return the summary and the log."""
    (folder / "main.yaml").write_text(config)
    arguments = ("start", "--config", "main.yaml", "--state-dir", "state", "--speed", "max", "--duration", "20", "--json")
    done = subprocess.run([sys.executable, MAIN, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@contextlib.contextmanager
def service(folder: Path, config: str) -> Iterator[str]:
    """Run an ML process as another machine would, and give its endpoint."""
    (folder / "service.yaml").write_text(config)
    arguments = ("-m", "ml_actor", "--config", "service.yaml", "--state-dir", "service", "--ready-line")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env={"PYTHONPATH": str(ROOT)}, **pipes)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["endpoint"]
    finally:
        process.kill()
        process.communicate()


def external(port: str, keys: str = "") -> str:
    return f"ml_service: {{mode: external, timeout: 2.0, client: {{host: 127.0.0.1, port: {port}{keys}}}}}"


def test_a_service_elsewhere_that_is_away_does_not_keep_trading_from_beginning(tmp_path: Path) -> None:
    summary, log = start(tmp_path, external("1"))

    assert summary["events"] > 100
    assert "Trading begins without the ML process" in log


@pytest.mark.parametrize("server", ["server", "impostor"])
def test_keys_open_the_way_to_a_service_elsewhere_and_only_to_the_expected_one(tmp_path: Path, server: str) -> None:
    files = create_keys(tmp_path / "keys", ["trading"])
    expected = create_keys(tmp_path / server, ["other"]) if server == "impostor" else files
    keys = f", curve: {{client_secret_file: {files.client_secret_files[0]}, server_public_file: {expected.server_public_file}}}"
    curve = f"curve: {{server_secret_file: {files.server_secret_file}, allowed_clients_dir: {files.allowed_clients_dir}}}"

    with service(tmp_path, f"ml_service: {{mode: external, server: {{port: 0, {curve}}}}}") as endpoint:
        summary, log = start(tmp_path, external(endpoint.rpartition(":")[2], keys))

    assert summary["events"] > 100
    assert ("ML service answers" in log) is (server == "server")
