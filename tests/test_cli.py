"""The command line: every verb, every refusal with its exact line and exit code, and no traceback for anybody."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.cli import run as verbs
from framework.cli.door import VERBS, enter, spread_market
from framework.config import MainConfig
from framework.errors import ConfigError, IntegrityError, StartRefused, StoppedByKill, StorageError
from framework.operations import control, offline
from framework.operations.deployments import Plan
from framework.operations.options import StartOptions, Summary
from framework.operations.state_dir import StateDir
from framework.operations.status import Status

ROOT = Path(__file__).resolve().parents[1]
STRATEGY = ROOT / "config" / "strategies" / "ml_futures.yaml"
Run = Callable[..., tuple[int, str, str]]


class Framework:
    """Stands where `run_framework` will: keeps the options, gives a summary or raises."""

    def __init__(self, answer: Summary | BaseException | None = None) -> None:
        self.answer = answer or Summary(events=1_234, orders=5, realized_pnl=Decimal("12.50"), model_version="v0001-1a2b3c4d")
        self.options: StartOptions | None = None

    def __call__(self, options: StartOptions) -> Summary:
        self.options = options
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, framework: Callable[[StartOptions], Summary] | None = None) -> tuple[int, str, str]:
        code = enter(arguments, framework or Framework())
        return code, *capsys.readouterr()

    return call


def started(run: Run, *arguments: str) -> StartOptions:
    framework = Framework()
    code, _, errors = run("start", *arguments, framework=framework)
    assert (code, errors) == (0, "")
    assert framework.options is not None
    return framework.options


def refused(run: Run, *arguments: str) -> str:
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors.removeprefix("error: ").rstrip("\n")


# --- help and usage ------------------------------------------------------------------------------------------------------


def test_without_arguments_the_verbs_are_listed_and_it_is_a_usage_error(run: Run) -> None:
    code, output, _ = run()

    assert code == 2
    assert all(name in output for name, _, _ in VERBS)


@pytest.mark.parametrize(("name", "example"), [(name, example) for name, _, example in VERBS])
def test_every_verb_explains_itself_with_an_example(run: Run, name: str, example: str) -> None:
    code, output, _ = run(name, "--help")

    assert code == 0
    assert f"Example: python main.py {example}" in output


@pytest.mark.parametrize("example", [example for name, _, example in VERBS if name not in {"ml-service"}])
def test_every_example_is_understood(run: Run, example: str) -> None:
    _, _, errors = run(*shlex.split(example.replace("config/", f"{ROOT}/config/")))

    assert all(word not in errors for word in ("No such", "Invalid", "Missing", "unexpected"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'."),
        (["start", "--sped", "3"], "No such option: --sped"),
        (["start", "now"], "Got unexpected extra argument"),
        (["start", "--seed", "x"], "Invalid value for '--seed'"),
        (["start", "--seed", "-1"], "Invalid value for '--seed'"),
        (["start", "--duration", "soon"], "Invalid value for '--duration'"),
        (["start", "--speed"], "Option '--speed' requires an argument."),
        (["deploy-strategy"], "Missing option '--config'"),
        (["undeploy-strategy"], "Missing argument 'NAME'"),
    ],
)
def test_a_usage_error_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    assert refused(run, *arguments).startswith(message)


# --- start -----------------------------------------------------------------------------------------------------------------


def test_start_needs_nothing(run: Run) -> None:
    assert started(run) == StartOptions(
        config=MainConfig(),
        config_path=None,
        state_dir=Path(".tidebook"),
        market=("simulated",),
        speed=1.0,
        seed=7,
        duration_s=None,
        record_dir=None,
        is_headless=True,
        is_json=False,
    )


def test_start_takes_the_main_file_of_the_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "main.yaml").write_text("risk: {max_position: 3}")

    options = started(run)

    assert (options.config.risk.max_position, options.config_path) == (3, Path("config/main.yaml"))


def test_start_takes_every_option(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("risk: {max_position: 4}")
    options = started(
        run,
        *("--config", "m.yaml", "--state-dir", "s", "--speed", "max", "--seed", "9", "--duration", "1.5", "--record", "r"),
        *("--headless", "--debug"),
    )

    assert options.config.risk.max_position == 4
    assert (options.state_dir, options.speed, options.seed) == (Path("s"), None, 9)
    assert (options.duration_s, options.record_dir, options.is_headless, options.is_debug) == (1.5, Path("r"), True, True)


@pytest.mark.parametrize(("text", "speed"), [("1", 1.0), ("0.5", 0.5), ("10x", 10.0), ("max", None), ("10000", 10_000.0)])
def test_a_speed_is_a_number_or_max(run: Run, text: str, speed: float | None) -> None:
    assert started(run, "--speed", text).speed == speed


@pytest.mark.parametrize("text", ["fast", "0", "-1", "nan", "inf", "1e9", "", "x"])
def test_any_other_speed_is_refused(run: Run, text: str) -> None:
    assert refused(run, "start", "--speed", text) == f"--speed: found {text}; allowed max, or a number from 0.01 to 10000"


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "1e10"])
def test_a_duration_is_positive_and_finite(run: Run, text: str) -> None:
    assert refused(run, "start", "--duration", text) == f"--duration: found {float(text):g}; allowed a number above 0 up to 1000000000"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--market", "a", "b", "c"],
        ["--market", "a", "--market", "b", "--market", "c"],
        ["--market", "a,b,c"],
        ["--market=a", "b,c", "--headless"],
    ],
)
def test_several_recordings_can_be_named_in_any_way(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    for name in "abc":
        (tmp_path / name).touch()

    assert started(run, *arguments).market == ("a", "b", "c")


def test_a_file_with_a_comma_in_its_name_is_one_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a,b").touch()

    assert started(run, "--market", "a,b").market == ("a,b",)


@pytest.mark.parametrize("name", ["missing.parquet", "simulatd", "a\x1b[31mb", "x" * 400, "", ","])
def test_a_recording_that_is_not_there_is_refused(run: Run, name: str) -> None:
    assert refused(run, "start", "--market", name).startswith("--market: found no such file: ")


def test_simulated_and_files_do_not_go_together(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    assert refused(run, "start", "--market", "simulated", "a") == (
        "--market: found simulated together with files; allowed simulated alone, or files"
    )


def test_market_values_are_spread_up_to_the_next_option() -> None:
    assert spread_market(["start", "--market", "a", "b", "--seed", "7"]) == ["start", "--market", "a", "--market", "b", "--seed", "7"]
    assert spread_market(["models", "promote", "v1"]) == ["models", "promote", "v1"]
    assert spread_market(["start", "--market"]) == ["start", "--market"]


def test_problems_of_a_config_file_are_one_line_each(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("risk: {max_position: 0}\npaper: {maker_fee: .nan}\n")

    code, output, errors = run("start", "--config", "m.yaml")

    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        "error: m.yaml:1:22: risk.max_position: found 0; allowed a whole number from 1 to 1000000000",
        "error: m.yaml:2:20: paper.maker_fee: found .nan; allowed a finite number",
    ]


def test_the_summary_is_a_table(run: Run) -> None:
    code, output, _ = run("start")

    assert code == 0
    assert "realized PnL" in output
    assert "12.50" in output
    assert "1,234" in output


def test_the_summary_is_the_last_line_as_json(run: Run) -> None:
    code, output, _ = run("start", "--json")
    summary = json.loads(output.splitlines()[-1])

    assert code == 0
    assert (summary["events"], summary["realized_pnl"], summary["model_version"]) == (1_234, "12.50", "v0001-1a2b3c4d")


def test_the_exit_code_is_that_of_the_summary(run: Run) -> None:
    assert run("start", framework=Framework(Summary(exit_code=5)))[0] == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c"), 2),
        (StartRefused("s"), 3),
        (StoppedByKill("k"), 4),
        (StorageError("d"), 5),
        (IntegrityError("i"), 6),
    ],
)
def test_each_kind_of_error_has_its_exit_code(run: Run, error: Exception, code: int) -> None:
    assert run("start", framework=Framework(error)) == (code, "", f"error: {error}\n")


def test_an_interrupt_is_no_error(run: Run) -> None:
    assert run("start", framework=Framework(KeyboardInterrupt())) == (130, "", "")


def test_a_bug_is_one_line_too(run: Run) -> None:
    code, output, errors = run("start", framework=Framework(ZeroDivisionError("a\x1b[31m\nb")))

    assert (code, output) == (1, "")
    assert errors == "error: unexpected ZeroDivisionError: a\\x1b[31m\\nb (run it again with --debug for the traceback)\n"


@pytest.mark.parametrize("arguments", [["--debug", "start"], ["start", "--debug"]])
def test_a_traceback_comes_with_debug_only(run: Run, arguments: list[str]) -> None:
    _, _, errors = run(*arguments, framework=Framework(ZeroDivisionError("oops")))

    assert "Traceback (most recent call last)" in errors


# --- deployments without a running framework -------------------------------------------------------------------------------


def deploy(run: Run, *arguments: str) -> tuple[int, str, str]:
    return run("deploy-strategy", "--config", str(STRATEGY), *arguments)


def test_a_deployment_waits_for_the_next_start(run: Run) -> None:
    assert deploy(run) == (0, "ml_futures: new, deployed\nit runs from the next start on: main.py start\n", "")
    assert deploy(run) == (0, "ml_futures: unchanged, nothing to do\n", "")
    code, output, _ = run("strategies", "--json")
    assert code == 0
    assert [(one["name"], one["state"]) for one in json.loads(output)] == [("ml_futures", "STOPPED")]


def test_a_changed_file_is_deployed_with_its_differences(run: Run, tmp_path: Path) -> None:
    deploy(run)
    (tmp_path / "f.yaml").write_text(
        STRATEGY.read_text().replace("max_book_moves: 20", "max_book_moves: 21").replace("levels: 3", "levels: 4")
    )

    code, output, _ = run("deploy-strategy", "--config", "f.yaml")

    assert code == 0
    assert output.splitlines() == [
        "ml_futures: changed, deployed",
        "  max_book_moves: 20 -> 21",
        "  parameters.levels: 3 -> 4",
        "it runs from the next start on: main.py start",
    ]


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    assert deploy(run, "--dry-run") == (0, "ml_futures: new, would be deployed\n", "")
    assert list(tmp_path.iterdir()) == []
    deploy(run)
    (tmp_path / "f.yaml").write_text(STRATEGY.read_text().replace("levels: 3", "levels: 4"))
    code, output, _ = run("deploy-strategy", "--config", "f.yaml", "--dry-run", "--json")
    assert code == 0
    assert json.loads(output) == {
        "name": "ml_futures",
        "kind": "changed",
        "changes": [{"key": "parameters.levels", "before": "3", "after": "4"}],
        "is_code_changed": False,
        "is_running": False,
        "is_dry_run": True,
    }
    assert deploy(run)[1].startswith("ml_futures: unchanged")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("levels: 3", "levles: 3", "parameters.levles: found an unknown key; allowed "),
        ("levels: 3", "levels: 30", "parameters.levels: found 30; allowed a whole number from 1 to 10"),
        ("name: ml_futures", "name: ../x", 'name: found the text "../x"; allowed a letter, then at most 63 letters, digits, - and _'),
        (
            ":MLFuturesStrategy",
            ":MLFuturesStrategi",
            "strategy strategies.ml_futures:MLFuturesStrategi: module strategies.ml_futures has no class",
        ),
        ("strategies.ml_futures:", "strategies.none:", "strategy module strategies.none does not exist"),
    ],
)
def test_a_wrong_strategy_file_is_refused_and_nothing_is_written(run: Run, tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "f.yaml").write_text(STRATEGY.read_text().replace(old, new))

    error = refused(run, "deploy-strategy", "--config", "f.yaml")

    assert message in error
    assert error.startswith("f.yaml:")
    assert not (tmp_path / ".tidebook").exists()


def test_undeploying_forgets(run: Run) -> None:
    deploy(run)

    assert run("undeploy-strategy", "ml_futures") == (0, "ml_futures: undeployed\n", "")
    assert refused(run, "undeploy-strategy", "ml_futures") == "no strategy named ml_futures is deployed; deployed: none"
    assert "No strategy is deployed" in run("strategies")[1]


@pytest.mark.parametrize("name", ["a/b", "..", "a\x1bb", "", "1", "x" * 65])
def test_a_name_that_none_can_have_is_refused(run: Run, name: str) -> None:
    assert refused(run, "undeploy-strategy", "--", name).endswith("; allowed a letter, then at most 63 letters, digits, - and _")


def test_a_state_directory_that_others_can_write_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o777)

    assert refused(run, "deploy-strategy", "--config", str(STRATEGY), "--state-dir", "s") == (
        "state directory s: mode 0777 lets others write; allowed 0700 (chmod 700 s)"
    )


def test_a_locked_state_directory_names_its_owner(run: Run, tmp_path: Path) -> None:
    with StateDir(tmp_path / ".tidebook"):
        code, _, errors = deploy(run)

    assert code == 3
    assert (
        errors
        == f"error: state directory .tidebook is in use by process {os.getpid()}; stop it (main.py stop) or use another --state-dir\n"
    )


# --- operating without a running framework ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["status", "stop", "train", "models"])
def test_a_verb_for_a_running_framework_says_that_none_runs(run: Run, verb: str) -> None:
    assert run(verb) == (3, "", "error: nothing runs in .tidebook; start it with: main.py start\n")


def test_the_kill_switch_is_set_and_cleared_in_the_journal(run: Run, tmp_path: Path) -> None:
    assert run("halt", "--reason", "enough\x07") == (0, "trading is HALTED\n", "")
    with offline.open_journal(tmp_path / ".tidebook") as journal:
        change = offline.trading_state(journal)
    assert (change.state, change.reason) == ("HALTED", "enough\\x07")
    assert refused(run, "resume") == "resume lets strategies trade again; say so with --confirm"
    assert run("resume", "--confirm", "--json") == (0, '{"trading_state":"ACTIVE"}\n', "")
    with offline.open_journal(tmp_path / ".tidebook") as journal:
        assert offline.trading_state(journal).state == "ACTIVE"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drop"], "models: found drop; allowed list, show, compare, promote, rollback, pin, unpin"),
        (["promote"], "models promote: found no version; allowed one that `models list` shows"),
        (["rollback", "v1"], "models rollback: found the version v1; allowed none"),
        (["compare"], "models compare: found no version; allowed one that `models list` shows"),
        (["show", "v1", "v2"], "models show: found the second version v2; allowed none"),
    ],
)
def test_a_wrong_model_command_is_refused_before_anybody_is_asked(run: Run, arguments: list[str], message: str) -> None:
    assert refused(run, "models", *arguments) == message


# --- with a running framework ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(directory: Path, answers: dict[type, Any]) -> Iterator[list[Any]]:
    """Serve the control socket from a thread; `answers` are results, or errors to raise, by command type."""
    seen: list[Any] = []
    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def handle(command: Any) -> Any:
        seen.append(command)
        answer = answers.get(type(command))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def serve() -> None:
        server = control.ControlServer(directory, handle)
        await server.start()
        ready.set()
        await done.wait()
        await server.stop()

    directory.mkdir(mode=0o700, exist_ok=True)
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def test_a_running_framework_deploys_the_text_of_the_file(run: Run, tmp_path: Path) -> None:
    with running(tmp_path / ".tidebook", {control.Deploy: Plan(name="ml_futures", kind="new", is_running=True)}) as seen:
        assert deploy(run) == (0, "ml_futures: new, deployed\nit runs now\n", "")

    assert seen == [control.Deploy(path=str(STRATEGY), text=STRATEGY.read_text(), dry_run=False)]


def test_a_refusal_of_the_running_framework_is_the_refusal_of_the_verb(run: Run, tmp_path: Path) -> None:
    answers = {
        control.Undeploy: ConfigError("no such strategy"),
        control.Train: StorageError("disk full"),
        control.Halt: IntegrityError("bad"),
    }
    with running(tmp_path / ".tidebook", answers):
        assert run("undeploy-strategy", "x") == (2, "", "error: no such strategy\n")
        assert run("train") == (5, "", "error: disk full\n")
        with StateDir(tmp_path / ".tidebook"):  # as its owner: else nothing runs that could be asked
            assert run("halt") == (6, "", "error: bad\n")


def test_the_status_is_a_table_or_json(run: Run, tmp_path: Path) -> None:
    found = Status(pid=1, state_dir="s", market=("simulated",), market_time_ns=0)
    with running(tmp_path / ".tidebook", {control.GetStatus: found, control.ListStrategies: []}):
        assert "simulated, 1970-01-01" in run("status")[1]
        assert json.loads(run("status", "--json")[1])["pid"] == 1
        assert run("strategies", "--json")[1] == "[]\n"


def test_models_are_listed_one_a_line_with_the_champion(run: Run, tmp_path: Path) -> None:
    scores = {"scores": {"model": {"log_loss": 0.98765, "auc_up_down": 0.7}}}
    gate = "log-loss differs by -0.01 +- 0.02 on 9 blocks: not better, " + "words " * 40
    versions: list[dict[str, Any]] = [{"version": "v0002-b", "promote_reason": "today\x1b[31m"}]
    versions += [{"version": "v0001-a", "horizon_rows": 50, "metrics": scores, "promote_reason": gate}]
    with running(tmp_path / ".tidebook", {control.Models: {"champion": "v0001-a", "versions": versions}}) as seen:
        code, output, _ = run("models")
        assert json.loads(run("models", "promote", "v0002-b", "--json")[1])["champion"] == "v0001-a"

    assert code == 0
    assert re.search(r"v0001-a +champion +50 +0\.9877 +0\.7000 +-0\.01 \+- 0\.02 on 9 blocks", output)
    assert "today\\x1b[31m" in output
    assert seen[1] == control.Models(action="promote", version_id="v0002-b")


def test_all_horizons_of_a_version_are_shown_in_one_table(run: Run, tmp_path: Path) -> None:
    def about(log_loss: float) -> dict[str, Any]:
        return {"metrics": {"scores": {"model": {"log_loss": log_loss, "auc_up_down": 0.7}}}, "calibration": "sigmoid", "tree_weight": 0.5}

    version = {"version": "v1", "horizon_rows": 50, "files": {}, "facts": about(0.98765) | {"further_horizons": {"10": about(0.51234)}}}
    with running(tmp_path / ".tidebook", {control.Models: {"champion": "v1", "versions": [], "facts": {"version": version}}}):
        code, output, _ = run("models", "show")

    assert code == 0
    assert re.search(r"50 +traded +0\.9877 +0\.7000 .*sigmoid", output)
    assert re.search(r"10 +0\.5123 +0\.7000 .*sigmoid", output)
    assert "further_horizons" not in output


def test_no_model_yet_is_said(run: Run, tmp_path: Path) -> None:
    with running(tmp_path / ".tidebook", {control.Models: {"champion": "", "versions": []}}):
        assert run("models", "list")[1] == "no model version yet; train one with: main.py train\n"


def test_stop_halt_resume_and_train_reach_it(run: Run, tmp_path: Path) -> None:
    with running(tmp_path / ".tidebook", {control.Train: {"started": True}}) as seen:
        with StateDir(tmp_path / ".tidebook"):
            assert run("halt", "--reason", "news")[0] == 0
        assert run("resume", "--confirm")[0] == 0
        assert run("train", "--json") == (0, '{"started":true}\n', "")
        assert run("train", "--warm", "--json") == (0, '{"started":true}\n', "")
        assert run("stop") == (0, "stopped\n", "")

    assert seen == [control.Halt(reason="news"), control.Resume(confirm=True), control.Train(), control.Train(refit="warm"), control.Stop()]


# --- ml-service and doctor -------------------------------------------------------------------------------------------------


def test_the_ml_service_replaces_this_process(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.yaml").write_text("{}")
    replaced: list[Sequence[str]] = []
    monkeypatch.setattr(verbs.os, "execve", lambda _path, argv, _environ: replaced.append(argv))

    run("ml-service", "--config", "m.yaml", "--state-dir", "s")
    run("ml-service")

    assert replaced == [
        [sys.executable, "-m", "ml_actor", "--config", "m.yaml", "--state-dir", "s"],
        [sys.executable, "-m", "ml_actor", "--state-dir", ".tidebook"],
    ]


def test_the_doctor_answers_with_a_table_or_json_and_an_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("ml_service: {mode: off}")
    (tmp_path / "bad.yaml").write_text("risk: 1")

    code, output, _ = run("doctor", "--config", "m.yaml", "--json")
    assert code == 0
    assert {check["name"]: check["result"] for check in json.loads(output)}["config"] == "ok"
    code, output, _ = run("doctor", "--config", "bad.yaml")
    assert code == 2
    assert "bad.yaml:1:7: risk: found 1" in output


WORDS = [
    *(name for name, _, _ in VERBS),
    *("--config", "--state-dir", "--market", "--speed", "--seed", "--duration", "--record", "--headless", "--json", "--dry-run"),
    *(
        "--reason",
        "--confirm",
        "--help",
        "--",
        "-",
        "",
        "simulated",
        "max",
        "1",
        "list",
        "promote",
        "rollback",
        "s",
        "x.yaml",
        "..",
        "\x1b[2J",
    ),
]


@given(st.lists(st.sampled_from(WORDS), max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_arguments_end_in_a_bug(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> None:
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        patch.chdir(tmp_path_factory.mktemp("cli"))
        patch.setattr(verbs.os, "execve", lambda _path, argv, _environ: None)
        patch.setattr(sys, "path", [*sys.path])
        code = enter(arguments, Framework())

    assert code in {0, 2, 3}
    assert "\x1b[2J" not in out.getvalue() + errors.getvalue()
    assert all(line.startswith("error: ") for line in errors.getvalue().splitlines())


# --- streams ---------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from framework.cli.door import enter
from framework.operations.options import Summary
sys.exit(enter(sys.argv[1:], lambda _: Summary(exit_code=4)))
"""


@pytest.mark.parametrize("arguments", [["start"], ["start", "--json"], ["--help"]])
@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "| true"])
def test_closed_streams_and_broken_pipes_change_no_exit_code(tmp_path: Path, arguments: list[str], closing: str) -> None:
    expected = 4 if arguments[0] == "start" else 0
    command = f'set -o pipefail; "$0" -c "$1" {" ".join(arguments)} {closing}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (expected, "")


@pytest.mark.parametrize("columns", ["1", "2", "20"])
def test_a_terminal_of_any_width_gets_an_answer(run: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    for arguments in (["--help"], ["start", "--help"], ["start"], ["strategies"], ["doctor"]):
        assert run(*arguments)[0] in {0, 2}


def test_the_kill_switch_waits_for_nothing_that_reads_recordings_or_trains() -> None:
    heavy = {"polars", "pyarrow", "numba", "sklearn"}
    script = f"import sys; from framework.cli.door import build; build('halt'); print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


def test_without_its_dependencies_the_door_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ModuleNotFoundError(\"No module named 'uvloop'\", name='uvloop')")
    door = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--help"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    assert door.returncode == 1
    assert door.stderr == f"error: uvloop is not installed in {sys.prefix}; run: pip install -c constraints.txt -e .\n"
