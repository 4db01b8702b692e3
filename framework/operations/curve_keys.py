"""CURVE key pairs for an ML process on another machine: one for the service, one for each client that may connect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import zmq.auth

from framework.errors import ConfigError, StorageError

SERVER: Final = "server"


class KeyFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. Secret files stay with their owner (mode 0600); public files (`*.key`) go to the other side."""

    server_secret_file: str
    server_public_file: str
    allowed_clients_dir: str
    client_secret_files: tuple[str, ...]


def create_keys(directory: Path, clients: Sequence[str]) -> KeyFiles:
    """Write the service's pair (kept if it is there) and a pair for each client, whose public half goes to the list of the allowed.

    The folders get mode 0700. Raises `ConfigError` for a client that has keys already or whose name is no file name,
    `StorageError` when they cannot be written.
    """
    allowed = directory / "clients"
    taken = [name for name in clients if (allowed / f"{name}.key").exists()]
    wrong = [name for name in clients if not name.replace("-", "").replace("_", "").isalnum() or name == SERVER]
    if taken or wrong:
        raise ConfigError(
            f"--client {(taken + wrong)[0]}: " + (f"has keys in {directory}" if taken else "allowed letters, digits, - and _")
        )
    try:
        allowed.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        if not (directory / f"{SERVER}.key_secret").exists():
            _create(directory, SERVER)
        for name in clients:
            _create(directory, name).rename(allowed / f"{name}.key")
    except OSError as exc:
        raise StorageError(f"{exc.filename or directory}: keys cannot be written ({exc.strerror})") from exc
    return KeyFiles(
        server_secret_file=str(directory / f"{SERVER}.key_secret"),
        server_public_file=str(directory / f"{SERVER}.key"),
        allowed_clients_dir=str(allowed),
        client_secret_files=tuple(str(directory / f"{name}.key_secret") for name in clients),
    )


def _create(directory: Path, name: str) -> Path:
    public, secret = zmq.auth.create_certificates(directory, name)
    Path(secret).chmod(0o600)
    return Path(public)


def yaml_of(files: KeyFiles) -> str:
    """Return the block of `config/main.yaml` that uses the keys, for the first client."""
    return "\n".join(
        (
            "ml_service:",
            "  client:",
            "    curve:",
            f"      client_secret_file: {files.client_secret_files[0]}",
            f"      server_public_file: {files.server_public_file}",
            "  server:",
            "    curve:",
            f"      server_secret_file: {files.server_secret_file}",
            f"      allowed_clients_dir: {files.allowed_clients_dir}",
        )
    )
