"""The docs are true: their links lead somewhere, their verbs and options exist, their first strategy runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.flows.harness import record_market

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?python main\.py (?P<verb>(?:(?:data|state) )?[a-z][a-z-]*)(?P<rest>.*)$", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")


@cache
def help_of(verb: str) -> str:
    command = [sys.executable, "main.py", *verb.split(), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=plain_environment())
    assert done.returncode == 0, f"{verb}: {done.stderr}"
    return done.stdout


def plain_environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_there(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_has_a_verb_and_options_that_exist(page: Path) -> None:
    wrong = [
        f"{command['verb']} {option}"
        for command in COMMAND.finditer(page.read_text())
        for option in OPTION.findall(command["rest"].partition("#")[0])
        if option not in help_of(command["verb"])
    ]

    assert wrong == []


def fenced(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_first_strategy_of_the_readme_trades(tmp_path: Path) -> None:
    code = next(block for block in fenced("python") if "class MyFirst" in block)
    config = next(block for block in fenced("yaml") if "my_first" in block)
    (tmp_path / "my_first.py").write_text(code)
    (tmp_path / "my_first.yaml").write_text(config.replace("strategies.my_first:", "my_first:"))
    (tmp_path / "main.yaml").write_text('ml_service:\n  mode: "off"\n')
    state = tmp_path / "state"

    def run(*arguments: str) -> str:
        environment = plain_environment() | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("deploy-strategy", "--config", str(tmp_path / "my_first.yaml"), "--state-dir", str(state))
    printed = run(
        *("start", "--speed", "max", "--duration", "60", "--headless", "--json"),
        *("--state-dir", str(state), "--config", str(tmp_path / "main.yaml")),
    )

    assert json.loads(printed.splitlines()[-1])["fills"] > 0


@pytest.mark.timeout(600)  # the first one on a machine compiles
def test_the_compiled_strategy_of_the_docs_trades_and_is_swept(tmp_path: Path) -> None:
    (tmp_path / "my_compiled.py").write_text(fenced("python", "docs/compiled.md")[0])
    (tmp_path / "my_compiled.yaml").write_text(fenced("yaml", "docs/compiled.md")[0].replace("strategies.my_compiled:", "my_compiled:"))
    recording = record_market(tmp_path / "market", duration_s=30.0)
    environment = plain_environment() | {"PYTHONPATH": str(tmp_path)}
    commands = [match[0].split()[1:] for match in COMMAND.finditer((ROOT / "docs" / "compiled.md").read_text())]
    here = {
        "my_compiled.yaml": str(tmp_path / "my_compiled.yaml"),
        "market": str(recording),
        "compiled.parquet": str(tmp_path / "out.parquet"),
    }

    found = []
    for words in commands:
        command = [sys.executable, *(here.get(word, word) for word in words), "--state-dir", str(tmp_path / "state"), "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))

    assert [words[1] for words in commands] == ["backtest", "sweep"]
    assert found[0]["fills"] > 0
    assert len(pl.read_parquet(tmp_path / "out.parquet")) == 9


def test_the_readmes_two_commands_install_and_run_what_ci_does() -> None:
    commands = [line for block in fenced("bash") for line in block.splitlines() if "pip install" in line]

    assert len(commands) == 2
    assert commands[0].endswith("main.py start")
    assert commands[1].endswith("pytest")
    assert "-c constraints.txt" in commands[0]
    assert "-c constraints.txt -e '.[dev,databento]'" in commands[1]
    assert "-c constraints.txt -e '.[dev,databento]'" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_explains_every_key(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"\s*[a-z_]+:\s+\S", line) and "#" not in line and not before.lstrip().startswith("#")
    ]

    assert yaml.safe_load(path.read_text())
    assert bare == []
