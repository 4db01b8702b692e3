"""What an operator does with model versions: list, show, compare, promote, rollback, pin, unpin.

The service carries these out while it serves. On a directory that nobody serves, `python -m ml_actor.model_verbs --job FILE`
does (`framework.models_job`): its last line on stdout is `{"result": {...}}`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError, ErrorCode, TidebookError, WireError
from framework.models_job import ModelsJob
from framework.wire import PROTOCOL_VERSION, ModelsRequest
from ml_actor.ports import ModelStore
from ml_actor.registry import Registry, UnknownVersion

DECISIONS_LISTED: Final = 20
SWAPS: Final = frozenset({"promote", "rollback"})
"""After these another version may serve."""

Facts = dict[str, Any]


def carry_out(models: ModelStore, request: ModelsRequest) -> Facts:
    """Do what `request` asks and return what there is to say about it; waits for the disk.

    Raises `WireError` (BAD_FIELD) for an action that is none, or that lacks its version; and what the registry raises.
    """
    if request.action not in _VERBS:
        raise WireError(ErrorCode.BAD_FIELD, f"action must be one of {', '.join(_VERBS)}, got {request.action!r}")
    return _VERBS[request.action](models, request)


def _list(models: ModelStore, _: ModelsRequest) -> Facts:
    return {"decisions": _plain(models.decisions()[-DECISIONS_LISTED:])}


def _show(models: ModelStore, request: ModelsRequest) -> Facts:
    version = request.version_id or models.champion() or ""
    found = [decision for decision in models.decisions() if version in (decision.version, decision.before)]
    return {"version": _version(models, version), "decisions": _plain(found)}


def _compare(models: ModelStore, request: ModelsRequest) -> Facts:
    pair = (request.version_id, request.other_id or models.champion() or "")
    left, right = (_version(models, version) for version in pair)
    about = [decision for decision in models.decisions() if {decision.version, decision.before} == set(pair)]
    return {"versions": [left, right], "scores": _scores(left, right), "decisions": _plain(about)}


def _promote(models: ModelStore, request: ModelsRequest) -> Facts:
    models.promote(_named(request), reason=request.reason)
    return _list(models, request)


def _rollback(models: ModelStore, request: ModelsRequest) -> Facts:
    models.rollback(reason=request.reason)
    return _list(models, request)


def _pin(models: ModelStore, request: ModelsRequest) -> Facts:
    models.pin(request.version_id or _champion(models), reason=request.reason)
    return _list(models, request)


def _unpin(models: ModelStore, request: ModelsRequest) -> Facts:
    models.unpin(request.version_id or _champion(models), reason=request.reason)
    return _list(models, request)


_VERBS: Final[dict[str, Callable[[ModelStore, ModelsRequest], Facts]]] = {
    "list": _list,
    "show": _show,
    "compare": _compare,
    "promote": _promote,
    "rollback": _rollback,
    "pin": _pin,
    "unpin": _unpin,
}


def _named(request: ModelsRequest) -> str:
    if not request.version_id:
        raise WireError(ErrorCode.BAD_FIELD, f"{request.action} needs a version_id; `list` shows them")
    return request.version_id


def _champion(models: ModelStore) -> str:
    champion = models.champion()
    if champion is None:
        raise UnknownVersion("there is no champion yet; name a version that `list` shows")
    return champion


def _version(models: ModelStore, version: str) -> Facts:
    manifest = models.manifest(version)
    place = next((entry for entry in models.versions() if entry["version"] == version), {})
    marks = {name: place.get(name, False) for name in ("is_champion", "is_challenger", "is_pinned")}
    return {**marks, **msgspec.to_builtins(manifest)}


def _scores(left: Facts, right: Facts) -> Facts:
    """Return each score of the model on its own test slice side by side; the slices differ, so this is no verdict."""
    tables = [one["facts"].get("metrics", {}).get("scores", {}).get("model", {}) for one in (left, right)]
    return {name: [table.get(name) for table in tables] for name in sorted({*tables[0], *tables[1]})}


def _plain(decisions: Sequence[Any]) -> list[Any]:
    return [msgspec.to_builtins(decision) for decision in decisions]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one job on a directory that nobody serves; the last line on stdout is its result."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.model_verbs", description="Look at model versions, or decide about them.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a ModelsJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=ModelsJob)
    try:
        result: Facts = {"ok": True} | _done(job)
    except TidebookError as exc:
        code = ConfigError.exit_code if isinstance(exc, UnknownVersion | WireError) else exc.exit_code
        result = {"ok": False, "reason": str(exc), "exit_code": code}
    sys.stdout.write(msgspec.json.encode({"result": result}).decode() + "\n")
    return 0


def _done(job: ModelsJob) -> Facts:
    registry = Registry(job.models_dir, wall_ns=time.time_ns)
    request = ModelsRequest(
        version=PROTOCOL_VERSION,
        request_id="",
        action=job.action,
        version_id=job.version_id,
        other_id=job.other_id,
        reason=job.reason,
    )
    facts = carry_out(registry, request)
    return {"champion": registry.champion() or "", "versions": registry.versions(), "facts": facts}


if __name__ == "__main__":
    sys.exit(main())
