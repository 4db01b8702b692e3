"""Hostile peers on every socket: unauthorised, flooding, twenty connections, garbage, half-open; and a false ML process.

    python -m tests.faults hostile --seconds 10 --table docs/faults.md
    python -m tests.faults hostile --seconds 10 --only control          # one socket

Each socket is served by a process of its own, without the rest. While it is attacked somebody decent asks; afterwards the process has to be
there, answer, and have let go of the descriptors. Its largest memory may be `MOST_MIB` above what it was before the first attack. Who has
no right gets nothing. How fast the decent one is served meanwhile is measured by `tests/benchmarks/bench_hostile_clients.py`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.auth

from framework import wire
from framework.errors import TidebookError
from framework.operations import control
from framework.wire import MAX_FRAME_BYTES
from tests.faults.attacks import ON_CONTROL, ON_KEYED, ON_SERVICE, Attack, Keys, Target, dealer, request
from tests.faults.tables import markdown, parser_of, show

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_MIB = 128
SPARE_DESCRIPTORS: Final = 2
LET_GO_S: Final = 20.0
ANSWER_S: Final = 30.0
NOBODY: Final = 65_534


@dataclass
class Found:
    """What came of one attack."""

    socket: str
    attack: str
    done: int = 0
    served: int = 0
    grown_mib: float = 0.0
    violations: list[str] = field(default_factory=list)

    def holds(self, is_true: bool, what: str) -> None:
        """Note what does not hold."""
        if not is_true:
            self.violations.append(f"{self.socket}, {self.attack}: {what}")


class Victim:
    """A process with one socket."""

    def __init__(self, kind: str, where: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.hostile_child", kind, where],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        self.at = str(json.loads(self._process.stdout.readline())["at"])
        self.before_mib = 0.0

    @property
    def is_alive(self) -> bool:
        """Return whether it is still there."""
        return self._process.poll() is None

    def peak_mib(self) -> float:
        """Return the largest memory that it ever had."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def descriptors(self) -> int:
        """Return how many it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def lets_go(self, most: int) -> bool:
        """Wait until it has no more open than so many; return whether that came."""
        end_s = time.monotonic() + LET_GO_S
        while self.descriptors() > most and time.monotonic() < end_s:
            time.sleep(0.05)
        return self.descriptors() <= most

    def end(self) -> str:
        """Close its stdin and return what it said in the end."""
        try:
            output, _ = self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
        return output.decode()


@contextmanager
def directory() -> Iterator[Path]:
    """Give a directory for one's own eyes that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def attack(victim: Victim, name: str, act: Attack, target: Target, ask: Callable[[], bool], found: Found, seconds: float) -> None:
    """Attack for a while, ask meanwhile, and look at what is left."""
    before = victim.descriptors()
    result: list[tuple[int, int]] = []
    end_s = time.monotonic() + seconds
    attacker = threading.Thread(target=lambda: result.append(act(target, end_s)), name=name)
    attacker.start()
    while attacker.is_alive():
        found.served += ask()
    attacker.join()
    found.done, got = result[0] if result else (0, 0)
    found.holds(got == 0, f"somebody without the right got {got} answers")
    found.holds(found.done > 0, "the attack did nothing")
    found.holds(victim.is_alive, "the process died")
    found.holds(ask(), "no answer afterwards")
    found.holds(victim.lets_go(before + SPARE_DESCRIPTORS), f"{victim.descriptors()} descriptors are open, {before} were")
    found.grown_mib = victim.peak_mib() - victim.before_mib
    found.holds(found.grown_mib <= MOST_MIB, f"memory grew by {found.grown_mib:.0f} MiB")


# --- the ML process ------------------------------------------------------------------------------------------------------------------


class Friend:
    """Somebody decent, who may ask."""

    def __init__(self, target: Target) -> None:
        self._socket = dealer(target, target.keys)
        self._number = 0

    def ask(self) -> bool:
        """Ask and return whether the answer to just that came in time."""
        self._number += 1
        name = f"friend-{os.getpid()}-{self._number}"
        self._socket.send_multipart(request(name))
        end_s = time.monotonic() + ANSWER_S
        while (left_s := end_s - time.monotonic()) > 0:
            if self._socket.poll(round(left_s * 1e3)):
                reply = wire.decode_reply(self._socket.recv_multipart()[-1])
                if reply.request_id == name:
                    return isinstance(reply, wire.PredictReply)
        return False

    def close(self) -> None:
        """Leave."""
        self._socket.close(linger=0)


def _keys(path: Path) -> tuple[Keys, Keys]:
    """Make the keys of a server and of one friend; return the friend's, and those of a stranger."""
    public, secret = zmq.auth.create_certificates(path, "server")
    Path(secret).chmod(0o600)
    (path / "clients").mkdir(mode=0o700)
    friend_public, friend_secret = zmq.auth.create_certificates(path, "friend")
    Path(friend_public).rename(path / "clients" / "friend.key")
    server, _ = zmq.auth.load_certificate(public)
    own, own_secret = zmq.auth.load_certificate(friend_secret)
    assert own_secret is not None
    return Keys(own, own_secret, server), Keys(*zmq.curve_keypair(), server)


def on_service(seconds: float, *, is_keyed: bool) -> list[Found]:
    """Attack the socket of the ML process, without keys (loopback) or with."""
    many = []
    with directory() as path:
        own, stranger = _keys(path) if is_keyed else (None, None)
        victim = Victim("service", str(path))
        friend = Friend(Target(victim.at, own))
        friend.ask()
        victim.before_mib = victim.peak_mib()
        for name, act in (ON_KEYED if is_keyed else ON_SERVICE).items():
            found = Found("ML process, with keys" if is_keyed else "ML process", name)
            attack(victim, name, act, Target(victim.at, stranger), friend.ask, found, seconds)
            found.holds(found.served > 0, "nobody decent was served")
            many.append(found)
        friend.close()
        victim.end()
    return many


# --- the operator's socket -------------------------------------------------------------------------------------------------------------


def on_control(seconds: float) -> list[Found]:
    """Attack the socket of the commands. The decent one may be told that it is busy, and is answered once they are gone."""
    many = []
    with directory() as path:
        victim = Victim("control", str(path))

        def ask() -> bool:
            for _ in range(int(ANSWER_S)):
                try:
                    return bool(control.ask(path, control.Ping(), timeout_s=ANSWER_S)["pong"])
                except TidebookError:
                    time.sleep(0.2)
            return False

        ask()
        victim.before_mib = victim.peak_mib()
        for name, act in ON_CONTROL.items():
            found = Found("operator's socket", name)
            attack(victim, name, act, Target(victim.at), ask, found, seconds)
            many.append(found)
        many.append(_as_another_user(path))
        victim.end()
    return many


def _as_another_user(path: Path) -> Found:
    found = Found("operator's socket", "another user")
    if os.geteuid() != 0:
        return found
    pid = os.fork()
    if pid == 0:
        os._exit(_reaches(path / control.SOCKET_NAME))
    found.done = 1
    found.holds(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "another user reached it")
    return found


def _reaches(path: Path) -> int:
    """Become nobody, and return 0 if that user is not let in."""
    os.setuid(NOBODY)
    try:
        socket.socket(socket.AF_UNIX).connect(str(path))
    except PermissionError:
        return 0
    return 1


# --- the strategies' side ----------------------------------------------------------------------------------------------------------------


def on_client(seconds: float) -> list[Found]:
    """Serve, in the ML process' place, a flood: answers repeated, to others, of noise and as large as can be."""
    found = Found("trading process", "a flooding service in the ML process' place")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        victim = Victim("client", f"tcp://127.0.0.1:{port}")
        before_mib, end_s = victim.peak_mib(), time.monotonic() + seconds
        while time.monotonic() < end_s:
            found.done += _flood_back(router)
        found.grown_mib = victim.peak_mib() - before_mib
        found.holds(victim.is_alive, "the process died")
        said = json.loads(victim.end() or "{}")
    found.served = int(said.get("asked", 0))
    found.holds(found.served > 0, "nobody asked")
    found.holds(said.get("ended") == found.served and said.get("twice") == 0, f"not one outcome a request: {said}")
    found.holds(found.grown_mib <= MOST_MIB, f"memory grew by {found.grown_mib:.0f} MiB")
    return [found]


def _flood_back(router: Any) -> int:
    if not router.poll(100):
        return 0
    sender, *frames = router.recv_multipart()
    asked = wire.decode_request(frames[1])
    pong = wire.Pong(
        version=wire.PROTOCOL_VERSION,
        request_id=asked.request_id,
        state="SERVING",
        model_version="v1",
        is_training=False,
        predictions=0,
        trainings=0,
    )
    answers = [wire.encode(pong), os.urandom(MAX_FRAME_BYTES), b"", *[wire.encode(pong)[:9]] * 20, os.urandom(100)]
    done = 0
    for answer in answers * 5:
        try:
            router.send_multipart([sender, b"", answer], zmq.NOBLOCK)
        except zmq.ZMQError:
            return done
        done += 1
    return done


SOCKETS: Final[dict[str, Callable[[float], list[Found]]]] = {
    "service": lambda seconds: on_service(seconds, is_keyed=False),
    "keyed": lambda seconds: on_service(seconds, is_keyed=True),
    "control": on_control,
    "client": on_client,
}
HEAD: Final = ("socket", "attack", "done", "decent requests meanwhile", "memory grew so far by, MiB", "violations")


def main(arguments: list[str]) -> int:
    """Attack from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="an attack")
    parser.add_argument("--only", nargs="*", default=list(SOCKETS), choices=list(SOCKETS))
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    found = [one for name in options.only for one in SOCKETS[name](options.seconds)]
    for text in (text for one in found for text in one.violations):
        print(f"{text}\nreplay: python -m tests.faults hostile {' '.join(arguments)}", file=sys.stderr)
    rows = [(one.socket, one.attack, one.done, one.served, f"{one.grown_mib:.1f}", len(one.violations)) for one in found]
    show(options, "hostile", markdown(HEAD, rows))
    return 1 if any(one.violations for one in found) else 0
