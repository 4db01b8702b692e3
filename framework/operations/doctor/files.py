"""Checks of the files: configuration, strategies, state directory, journal, training data, models, recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from framework.dataset.reader import read_dataset
from framework.errors import TidebookError
from framework.logs import foreign
from framework.market.catalogue.reading import open_market
from framework.operations import deployments
from framework.operations.doctor.checks import OK, WARN, Check, Patient, checked, settings_of
from framework.operations.offline import open_journal
from framework.operations.options import SIMULATED
from framework.operations.state_dir import StateDir
from framework.strict_yaml import load_main_config, read_text


def config(patient: Patient) -> Iterator[Check]:
    """Read `config/main.yaml` and every strategy file."""
    yield checked("config", lambda: _config_detail(patient.config_path), "correct the file; docs/configuration.md lists the keys")
    for path in sorted(patient.strategies_dir.glob("*.yaml")):
        yield checked(f"strategy {path.name}", lambda path=path: _strategy_detail(path), "correct the file or its strategy")  # type: ignore[misc]


def _config_detail(path: Path | None) -> str:
    if path is None:
        return "no file, the defaults rule"
    load_main_config(path)
    return str(path)


def _strategy_detail(path: Path) -> str:
    deployment = deployments.read_deployment(read_text(path), str(path))
    return f"{deployment.file.strategy} on {deployment.file.instrument_id}"


def state_dir(patient: Patient) -> Iterator[Check]:
    """Look at owner, mode and lock of the state directory."""
    state = StateDir(patient.state_dir)
    if not patient.state_dir.exists():
        yield Check(name="state directory", result=OK, detail=f"{patient.state_dir} will be created")
        return
    check = checked("state directory", lambda: _state_detail(state), "correct its owner and mode, or use another --state-dir")
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


def journal(patient: Patient) -> Iterator[Check]:
    """Verify the hash chain of the journal, unless it is in use."""
    state = StateDir(patient.state_dir)
    if not state.journal.is_file():
        yield Check(name="journal", result=OK, detail="none yet")
    elif state.is_locked():
        yield Check(name="journal", result=OK, detail="in use; stop the framework to have its hash chain checked")
    else:
        yield checked("journal", lambda: _journal_detail(patient.state_dir), "restore it from a backup, or move it away to start afresh")


def _journal_detail(state_dir: Path) -> str:
    with open_journal(state_dir) as journal:
        return f"{journal.verify():,} records, the hash chain holds"


def dataset(patient: Patient) -> Iterator[Check]:
    """Read what a training would read."""
    directory = StateDir(patient.state_dir).dataset
    fix = "move the directory away to begin a new one, or restore the named parts"
    if not directory.is_dir():
        yield Check(name="training data", result=OK, detail="none yet")
        return
    check = checked("training data", lambda: _dataset_detail(directory, settings_of(patient).training.max_rows), fix)
    yield check if "; refused: " not in check.detail else msgspec.structs.replace(check, result=WARN, fix=fix)


def _dataset_detail(directory: Path, max_rows: int) -> str:
    found = read_dataset(directory, max_rows=max_rows)
    refused = f"; refused: {'; '.join(str(part) for part in found.refused)}" if found.refused else ""
    names = foreign(", ".join(found.instruments)) or "no instrument"
    return f"{found.total_rows:,} rows of {names} can be read{refused}"


def model(patient: Patient) -> Iterator[Check]:
    """See whether the champion is there."""
    pointers = sorted(StateDir(patient.state_dir).models.glob("**/champion.json"))
    if not pointers:
        fix = "nothing to do: strategies use their default behaviour until the first training (main.py train)"
        yield Check(name="model", result=WARN, detail="none trained yet", fix=fix)
    for pointer in pointers:
        yield checked("model", lambda pointer=pointer: _champion(pointer), "main.py models rollback, or main.py train")  # type: ignore[misc]


def _champion(pointer: Path) -> str:
    try:
        version = str(msgspec.json.decode(pointer.read_bytes())["champion"])
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise TidebookError(f"{pointer} names no version") from exc
    if not (pointer.parent / version / "manifest.json").is_file():
        raise TidebookError(f"{pointer} names {foreign(version, 60)}, which is not there")
    return f"{foreign(version, 60)} serves"


def recordings(patient: Patient) -> Iterator[Check]:
    """Open the recordings that a start would replay."""
    paths = tuple(Path(name) for name in patient.market if name != SIMULATED)
    if paths:
        yield checked("recordings", lambda: _recordings_detail(paths), "docs/operations.md lists the formats")


def _recordings_detail(paths: tuple[Path, ...]) -> str:
    feed = open_market([str(path) for path in paths])
    return f"{len(paths)} can be replayed: {', '.join(one.instrument_id for one in feed.instruments)}"
