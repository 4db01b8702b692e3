"""`evaluate` from the command line: what is refused and how, and a whole run on a synthetic market."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from framework.cli.door import enter
from framework.operations.options import Summary
from tests.shfe import shfe_day

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = enter(["evaluate", *arguments], lambda options: Summary())
        assert list(scratch.iterdir()) == [], "the scratch directory is always removed"
        return code, *capsys.readouterr()

    return call


def days(folder: Path, rows: int = 3_000) -> tuple[str, str]:
    first = shfe_day(folder / "d1.parquet", rows, seed=1, start_s=1_750_000_000)
    second = shfe_day(folder / "d2.parquet", rows, seed=2, start_s=1_750_086_400)
    return str(first), str(second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "evaluate: found no recordings; allowed --train FILE... --test FILE..., or --data FILE..."),
        (["--train", "a"], "evaluate: found only one of --train and --test; allowed both"),
        (
            ["--train", "a", "--test", "b", "--data", "c"],
            "evaluate: found --data together with --train or --test; allowed one way or the other",
        ),
        (["--train", "a", "--test", "b", "--walk-forward"], "evaluate: found --walk-forward with --train and --test; allowed with --data"),
        (["--data", "a", "--split", "1.5"], "evaluate: found --split 1.5; allowed 0.05 to 0.95"),
        (["--data", "a", "--horizons", "10,x"], "--horizons: found 10,x; allowed up to 16 different whole numbers from 1 to 100000"),
        (["--data", "a", "--horizons", "0"], "--horizons: found 0; allowed up to 16"),
        (["--data", "a", "--horizons", "10,10"], "--horizons: found 10,10; allowed up to 16"),
        (["--data", "a", "--horizons", ""], "--horizons: found ; allowed up to 16"),
        (["--data", "a", "--label", "up"], "--label: found up; allowed sign, tercile"),
        (["--data", "a", "--backend", "spark"], "--backend: found spark; allowed loky, dask, ray"),
        (["--data", "a", "--taker-fee", "much"], "--taker-fee: found much; allowed money per lot such as 0.85"),
        (["--data", "missing.parquet"], "missing.parquet: does not exist; allowed are "),
        (["--data", "a", "--report", "none/r.html"], "--report: found none/r.html, whose directory does not exist; make it first"),
        (["--data", "a", "--predictions", "/dev/null"], "--predictions: found /dev/null, which is no regular file; allowed a file name"),
        (["--data", "a\x1b[31m.parquet"], "found the file name a\\x1b[31m.parquet; allowed are printable characters"),
        (["--data", "a\udcff"], "found the file name a\\udcff; allowed are printable characters"),
        (["--data", "a", "--predictions", "."], "--predictions: found the directory .; allowed a file name"),
        (["--data", "a", "--predictions", "a"], "--predictions: found a, which would be overwritten; allowed a file of its own"),
        (
            ["--data", "a", "--predictions", "x", "--report", "x"],
            "--report: found x, which would be overwritten; allowed a file of its own",
        ),
    ],
)
def test_what_names_no_evaluation_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    code, output, errors = run(*arguments)

    assert (code, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


def test_a_recording_must_not_teach_and_be_tested(run: Run, tmp_path: Path) -> None:
    first, _ = days(tmp_path)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(Path(first).read_bytes())

    code, _, errors = run("--train", first, "--test", str(copy))

    assert code == 2
    assert errors == f"error: {copy}: holds the same rows as {first}; name each recording once, and never train on what is tested\n"


def test_recordings_of_the_same_hours_are_not_split(run: Run, tmp_path: Path) -> None:
    first, _ = days(tmp_path)
    other = shfe_day(tmp_path / "hc.parquet", 3_000, seed=3, start_s=1_750_000_600, symbol="hc2510")

    code, _, errors = run("--data", str(other), first, "--split", "0.5")

    assert (code, errors) == (2, f"error: --split: {other} begins before {first} ends; allowed recordings one after the other\n")


def test_a_damaged_recording_is_an_integrity_error(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)
    Path(second).write_bytes(Path(second).read_bytes()[:-100])

    code, output, errors = run("--train", first, "--test", second, "--predictions", "p.parquet")

    assert (code, output) == (6, "")
    assert errors.count("\n") == 1
    assert not Path("p.parquet").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_no_report_is_a_storage_error(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)
    (tmp_path / "shut").mkdir(mode=0o500)

    assert run("--train", first, "--test", second, "--report", str(tmp_path / "shut" / "r.html"))[0] == 5


def test_too_few_rows_are_refused_with_their_number(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path, rows=400)

    code, output, errors = run("--train", first, "--test", second, "--horizons", "10")

    assert (code, output) == (2, "")
    assert errors == "error: horizon 10: 180 usable rows, at least 2000 needed\n"


def test_a_split_teaches_the_first_share_of_the_rows_and_tests_the_rest(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)

    outputs = ("--predictions", "p.parquet", "--json")
    code, output, errors = run("--data", second, first, "--split", "0.75", "--horizons", "10", "--model", "majority", *outputs)

    assert (code, errors) == (0, "")
    fold = json.loads(output)["folds"][0]
    assert [(one["file"], one["first_row"], one["rows"]) for one in fold["train"]] == [(first, 0, 3_000), (second, 0, 1_500)]
    assert [(one["file"], one["first_row"], one["rows"]) for one in fold["test"]] == [(second, 1_500, 1_500)]
    assert pq.read_table("p.parquet").column("row").to_pylist() == [*range(1_600, 2_990)]


def assert_anybody_gets_the_same(folder: Path, scores: dict[str, dict[str, float]], *, rows: int) -> None:
    """Score the predictions by the script in the docs."""
    page = (ROOT / "docs" / "evaluation.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "sys.argv" in block)
    (folder / "score.py").write_text(code)
    argv = [sys.executable, str(folder / "score.py"), "p.parquet", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    horizon, count, loss, correlation, area = done.stdout.split()
    assert (int(horizon), int(count)) == (10, rows)
    for text, score in ((loss, "log_loss"), (correlation, "mcc_largest"), (area, "auc_up_down")):
        assert float(text) == pytest.approx(scores[score]["value"], abs=1e-9)


CLUSTER = """
from distributed import LocalCluster
cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
print(cluster.scheduler_address, flush=True)
input()
cluster.close()
"""


@pytest.fixture
def dask_cluster(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and two workers, and return their address."""
    pytest.importorskip("distributed")
    argv = [sys.executable, "-c", CLUSTER]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.write("\n")


def test_a_walk_forward_says_the_same_here_and_on_a_cluster(run: Run, tmp_path: Path, dask_cluster: str) -> None:
    first, second = days(tmp_path)
    where = [[], ["--backend", "dask", "--address", dask_cluster]]

    reports = []
    for number, options in enumerate(where):
        common = ("--data", first, second, "--folds", "2", "--horizons", "10", "--model", "imbalance", "--json")
        code, output, errors = run(*common, "--predictions", f"p{number}.parquet", *options)
        assert (code, errors) == (0, "")
        reports.append(json.loads(output))

    assert [fold["number"] for fold in reports[0]["folds"]] == [1, 2]
    assert [one["trials"] for one in reports] == [1, 2]
    assert Path("p0.parquet").read_bytes() == Path("p1.parquet").read_bytes()


def test_a_cluster_that_nobody_answers_for_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    first, second = days(tmp_path)

    code, _, errors = run("--data", first, second, "--model", "majority", "--backend", "dask", "--address", "tcp://127.0.0.1:1")

    assert code == 2
    assert errors.startswith("error: --address: found tcp://127.0.0.1:1; no Dask scheduler answers there")


def test_a_model_that_nobody_has_is_named(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)

    code, _, errors = run("--train", first, "--test", second, "--model", "oracle")

    assert code == 2
    assert errors.startswith("error: --model: found 'oracle'; allowed majority, persistence, imbalance, ")
    lines = [json.loads(line) for line in Path(".tidebook/trials.jsonl").read_text().splitlines()]
    assert [line.get("is_void", False) for line in lines] == [False, True]


SLOW = """
import pathlib
import time

def fit(train, *, horizons, label, seed, report):
    pathlib.Path("fitting").touch()
    time.sleep(60)
"""


def test_a_run_that_is_told_to_end_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)
    Path("slow.py").write_text(SLOW)
    outputs = ("--predictions", "p.parquet", "--report", "r.html")
    argv = [sys.executable, str(ROOT / "main.py"), "evaluate", "--train", first, "--test", second, "--model", "slow:fit", *outputs]

    with subprocess.Popen(argv, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path / "scratch")}) as process:
        for line in iter(lambda: Path("fitting").exists(), True):
            assert process.poll() is None, line
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors) == (130, b"")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert sorted(path.name for path in Path().iterdir() if path.name != "__pycache__") == [".tidebook", "fitting", "slow.py"]


def test_a_model_of_ones_own_is_a_function_anywhere(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)
    Path("mine.py").write_text(
        """
import numpy as np

class Coin:
    def predict_rows(self, recording):
        return {10: np.tile([0.2, 0.6, 0.2], (len(recording.rows), 1))}
    def facts(self):
        return {}

def fit(train, *, horizons, label, seed, report):
    return Coin()
"""
    )

    code, output, _ = run("--train", first, "--test", second, "--horizons", "10", "--model", "mine:fit", "--json")

    assert code == 0
    scores = json.loads(output)["horizons"]["10"]["scores"]["model"]
    assert scores["auc_up_down"]["value"] == 0.5


def test_a_synthetic_market_is_predicted_better_than_by_the_baselines(run: Run, tmp_path: Path) -> None:
    first, second = days(tmp_path)

    outputs = ("--predictions", "p.parquet", "--report", "r.html")
    code, output, errors = run("--train", first, "--test", second, "--horizons", "10", *outputs, "--json")

    assert (code, errors) == (0, "")
    report = json.loads(output)
    scores = report["horizons"]["10"]["scores"]
    assert set(scores) == {"model", "majority", "persistence", "imbalance"}
    assert scores["model"]["log_loss"]["value"] < scores["majority"]["log_loss"]["value"] - 0.01
    assert report["trials"] == 1
    table = pq.read_table("p.parquet")
    assert table.column_names == ["file", "row", "ts_event", "horizon", "p_down", "p_flat", "p_up"]
    assert table.column("file").unique().to_pylist() == [second]
    assert table.column("row").to_pylist() == [*range(100, 1_490), *range(1_600, 2_990)]
    page = Path("r.html").read_text()
    assert page.count("<svg") == 5
    assert not re.search(r"https?:|<script|<link|@import|src=|url[(]", page), "the page needs nothing from elsewhere"
    assert sorted(path.name for path in Path().iterdir()) == [".tidebook", "p.parquet", "r.html"]
    assert_anybody_gets_the_same(tmp_path, scores["model"], rows=2_780)
    net = report["horizons"]["10"]["coverage"]["0.05"]["by_latency"]["next_row"]["net_ticks"]
    assert net["value"] < 0, "a taker does not profit"
