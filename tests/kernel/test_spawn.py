"""Starting a program from a loop: the thread that starts it stays, its death and first line are heard, nothing is left open."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from framework.kernel.spawn import FIRST_LINE_MAX, SpawnedChild, finding_us, spawn

ROOT = Path(__file__).resolve().parents[2]
DYING_WITH_ITS_PARENT = "from framework.parent_death import die_with_parent; die_with_parent(); print('{}', flush=True); input()"


def running(script: str) -> list[str]:
    return [sys.executable, "-c", script]


async def ended(child: SpawnedChild) -> SpawnedChild:
    child.kill()
    await asyncio.wait_for(child.gone, 10)
    child.close()
    return child


async def test_a_child_that_dies_with_its_parent_outlives_the_start_of_others() -> None:
    """It dies with the thread that started it: one that ended after the start would take it along."""
    child = await spawn(running(DYING_WITH_ITS_PARENT), env={"PYTHONPATH": str(ROOT)})
    assert await asyncio.wait_for(child.first_line, 20) == b"{}"

    await ended(await spawn(running("print()")))

    assert child.exit_code is None
    assert (await ended(child)).how_it_ended() == "signal 9 (Killed)"


async def test_the_exit_code_of_a_child_is_told() -> None:
    child = await spawn(running("raise SystemExit(7)"))
    await asyncio.wait_for(child.gone, 20)
    child.close()

    assert (child.exit_code, child.how_it_ended()) == (7, "exit code 7")


async def test_a_first_line_without_an_end_is_cut() -> None:
    child = await spawn(running(f"print('x' * {FIRST_LINE_MAX + 10}, end='', flush=True); input()"))

    assert len(await asyncio.wait_for(child.first_line, 20)) > FIRST_LINE_MAX
    await ended(child)


async def test_the_end_of_our_stdin_ends_a_child_that_reads_it() -> None:
    child = await spawn(running("import sys; sys.stdin.read()"))

    child.close()

    await asyncio.wait_for(child.gone, 20)
    assert child.exit_code == 0


async def test_a_program_that_is_not_there_raises() -> None:
    with pytest.raises(FileNotFoundError):
        await spawn(["/nowhere/nothing"])


def test_a_child_finds_our_packages_wherever_it_is_called_from(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import ml_actor, sys; print(sys.path[2])")
    environ = finding_us({"PYTHONPATH": "/already/there"})

    found = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)

    assert found.stdout == "/already/there\n"
