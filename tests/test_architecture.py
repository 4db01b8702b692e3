"""The floors of the house: every import goes strictly down."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "framework.model",
        "framework.messages",
        "framework.errors",
        "framework.clock",
        "framework.config",
        "framework.logs",
        "framework.window",
        "framework.wire",
        "framework.wire_json",
        "framework.dataset",
        "framework.evaluation_job",
        "framework.leak_job",
        "framework.models_job",
        "framework.explanation_job",
        "framework.backtest_job",
        "framework.multiplicity",
        "framework.parallel",
        "framework.plots",
        "framework.progress",
        "framework.remote_files",
        "framework.search_job",
        "framework.strict_yaml",
        "framework.parent_death",
        "framework.socket_reader",
        "framework.unix_sockets",
    ),
    ("framework.kernel",),
    ("framework.venues.port",),
    ("framework.market", "framework.trading"),
    ("framework.venues",),
    ("framework.inference",),
    ("framework.strategy",),
    ("framework.operations",),
    ("framework.research",),
    ("framework.app",),
    ("framework.backtest",),
    ("framework.cli",),
    ("main",),
)
STRATEGIES_MAY_IMPORT = ("framework.strategy", "framework.model", "framework.messages", "framework.inference.decision")
BANNED_BELOW_APP = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("uuid", "uuid4"),
    ("os", "urandom"),
    ("random", "random"),
}
KNOWS_THE_WALL_CLOCK = {"framework/clock.py", "framework/app.py"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def floor_of(name: str) -> int | None:
    matches = [(len(room), floor) for floor, rooms in enumerate(FLOORS) for room in rooms if name == room or name.startswith(room + ".")]
    return max(matches)[1] if matches else None


def room_of(name: str) -> str:
    rooms = [room for floor in FLOORS for room in floor if name == room or name.startswith(room + ".")]
    return max(rooms, key=len) if rooms else name


def test_every_module_of_the_framework_has_a_floor() -> None:
    homeless = [module_name(path) for path in modules("framework") if floor_of(module_name(path)) is None]

    assert homeless == ["framework"]


def test_imports_go_strictly_down() -> None:
    wrong = []
    for path in modules("framework"):
        name = module_name(path)
        own = floor_of(name)
        for target in imported(path):
            theirs = floor_of(target)
            if own is None or theirs is None or room_of(name) == room_of(target) or (own == theirs == 0):
                continue
            if theirs >= own:
                wrong.append(f"{name} imports {target}")

    assert wrong == []


def test_the_ml_process_and_the_trading_process_meet_on_the_ground_floor_only() -> None:
    ground = set(FLOORS[0])
    wrong = [
        f"{module_name(path)} imports {target}"
        for path in modules("ml_actor")
        for target in imported(path)
        if target.startswith(("framework.", "strategies")) and not any(target == room or target.startswith(room + ".") for room in ground)
    ]
    wrong += [
        f"{module_name(path)} imports {target}"
        for package in ("framework", "strategies")
        for path in modules(package)
        for target in imported(path)
        if target.split(".")[0] == "ml_actor"
    ]

    assert wrong == []


def test_strategies_import_only_what_users_are_promised() -> None:
    wrong = [
        f"{module_name(path)} imports {target}"
        for path in modules("strategies")
        for target in imported(path)
        if target.startswith("framework") and not target.startswith(STRATEGIES_MAY_IMPORT)
    ]

    assert wrong == []


def test_there_are_no_import_cycles() -> None:
    graph = {module_name(path): imported(path) for path in modules("framework") + modules("ml_actor")}
    edges = {name: {target for target in graph if target != name and target in targets} for name, targets in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for target in sorted(edges[name]):
            visit(target, (*trail, name))
        done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_nobody_below_app_reads_the_wall_clock_or_draws_at_random() -> None:
    wrong = []
    for path in modules("framework") + modules("strategies"):
        if str(path.relative_to(ROOT)) in KNOWS_THE_WALL_CLOCK:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if (name, node.func.attr) in BANNED_BELOW_APP:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {name}.{node.func.attr}")

    assert wrong == []


@pytest.mark.parametrize("entry", ["framework.app", "framework.cli.door"])
def test_importing_the_trading_process_or_a_verb_loads_no_learning_library(entry: str) -> None:
    script = f"import sys, {entry}; print([m for m in ('sklearn', 'lightgbm', 'hmmlearn', 'numba', 'ml_actor') if m in sys.modules])"

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert printed.strip() == "[]"
