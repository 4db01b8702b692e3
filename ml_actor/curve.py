"""CURVE for a bind beyond loopback: the server's key file, and the clients that may connect. Keys are files of mode 0600."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.asyncio
import zmq.auth
from zmq.auth.asyncio import AsyncioAuthenticator

from framework.config import CurveKeys
from framework.errors import StartRefused

DOMAIN: Final = "tidebook"


def check_curve_files(curve: CurveKeys) -> None:
    """Raise `StartRefused` unless the secret key and the folder of clients are there and closed to others."""
    secret, clients = Path(curve.server_secret_file), Path(curve.allowed_clients_dir)
    _check_private(secret, "ml_service.server.curve.server_secret_file", forbidden=0o077)
    _check_private(clients, "ml_service.server.curve.allowed_clients_dir", forbidden=0o022)
    if not any(clients.glob("*.key")):
        raise StartRefused(f"ml_service.server.curve.allowed_clients_dir: {clients} holds no *.key file, so nobody could connect")


def _check_private(path: Path, key: str, *, forbidden: int) -> None:
    try:
        status = path.stat()
    except OSError as exc:
        raise StartRefused(f"{key}: {path} cannot be read ({exc.strerror})") from exc
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden or status.st_uid != os.geteuid():
        raise StartRefused(
            f"{key}: {path} has mode {mode:04o} and belongs to user {status.st_uid}; it must be yours, closed to others (chmod go= {path})"
        )


def secure(socket: Any, curve: CurveKeys) -> None:
    """Make `socket` a CURVE server whose clients must be on the list; without an authenticator nobody gets in."""
    public, secret = zmq.auth.load_certificate(curve.server_secret_file)
    if secret is None:
        raise StartRefused(f"{curve.server_secret_file}: holds no secret key; generate one with zmq.auth.create_certificates")
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_PUBLICKEY, public)
    socket.set(zmq.CURVE_SECRETKEY, secret)
    socket.set(zmq.ZAP_DOMAIN, DOMAIN.encode())
    # Without this a dead authenticator lets every stranger in.
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def start_authenticator(context: zmq.asyncio.Context, curve: CurveKeys) -> AsyncioAuthenticator:
    """Start the allow-list. A named domain: `*` would not cover it."""
    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain=DOMAIN, location=curve.allowed_clients_dir)
    return authenticator
