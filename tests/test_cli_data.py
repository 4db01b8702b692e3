"""The verbs of the catalogue, as a stranger types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.cli.door import enter
from framework.cli.market_option import read_market
from framework.market.recording import Recorder
from framework.messages import BookSnapshot, TradeTick
from framework.model import NS_PER_S, Instrument, Side

Run = Callable[..., tuple[int, str, str]]
T0 = 1_703_545_200 * NS_PER_S  # 2023-12-25 23:00 UTC
INSTRUMENT = Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(50))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs one command in an empty folder and returns its code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def running(*arguments: str) -> tuple[int, str, str]:
        code = enter(arguments, lambda _: pytest.fail("nobody asked to start"))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return running


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a recording of ten books and five trades."""
    recorder = Recorder(tmp_path / "rec", [INSTRUMENT], may_wait=True)
    recorder.start()
    for number in range(10):
        at: dict[str, Any] = {"instrument_id": "ESH4.GLBX", "ts_event": T0 + number * NS_PER_S, "ts_recv": T0 + number * NS_PER_S}
        book = {"bid_ticks": (19_200 + number, 19_199), "bid_sizes": (5, 7), "ask_ticks": (19_220, 19_221), "ask_sizes": (6, 8)}
        if number % 2:
            recorder.record(TradeTick(**at, sequence=number, price_ticks=19_220, size=2, aggressor=Side.BUY))
        recorder.record(BookSnapshot(**at, sequence=number, **book))  # type: ignore[arg-type]
    recorder.close()
    return tmp_path / "rec"


def test_a_recording_goes_in_is_listed_checked_drawn_and_comes_out(run: Run, recording: Path, tmp_path: Path) -> None:
    assert run("data", "import", "rec")[0] == 0
    code, listed, _ = run("data", "list")
    assert (code, "ESH4.GLBX/2023-12-26" in listed) == (0, True)
    assert run("data", "check")[:2] == (0, "ESH4.GLBX/2023-12-26: sound, 15 events\n1 entries checked, 0 damaged\n")
    assert run("data", "show", "ESH4.GLBX", "--output", "depth.png", "--from", "2023-12-25T23:00:03")[1] == "depth.png: 11 events drawn\n"
    assert run("data", "export", "ESH4.GLBX/2023-12-26", "--what", "trades", "--output", "out.csv")[1] == "out.csv: 5 trades\n"

    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")
    assert run("data", "export", "out.csv", "--what", "trades", "--output", "again.csv")[0] == 0
    assert (
        (tmp_path / "again.csv").read_text().splitlines()[1].startswith("ESH4.GLBX,1703545201000000000,1703545201000000000,0,4805.00,2,BUY")
    )


def test_every_verb_answers_scripts_with_one_line(run: Run, recording: Path) -> None:
    (imported,) = json.loads(run("data", "import", "rec", "--json")[1])["imported"]
    assert (imported["books"], imported["trades"], imported["origins"][0]["name"]) == (10, 5, "_manifest.json")
    assert json.loads(run("data", "list", "--json")[1])["instruments"]["ESH4.GLBX"]["instrument"]["tick_size"] == "0.25"
    assert json.loads(run("data", "check", "--json")[1]) == [{"entry": "ESH4.GLBX/2023-12-26", "events": 15, "fault": ""}]
    assert json.loads(run("data", "show", "rec", "--json")[1])["output"] == "rec.html"
    assert json.loads(run("data", "export", "rec", "--output", "b.parquet", "--json")[1]) == {"output": "b.parquet", "rows": 10}


def test_damage_ends_in_exit_6(run: Run, recording: Path, tmp_path: Path) -> None:
    run("data", "import", "rec")
    (part,) = (tmp_path / "catalogue").rglob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"X")

    code, printed, _ = run("data", "check")

    assert code == 6
    assert "does not match its SHA-256" in printed
    assert "1 entries checked, 1 damaged" in printed


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["import", "absent.csv"], "absent.csv: does not exist; allowed are recordings"),
        (["import"], "Missing argument 'FILE...'"),
        (["import", "rec", "--on-crossed", "maybe"], "--on-crossed: found maybe; allowed refuse or skip"),
        (["list", "NQH4.GLBX"], "NQH4.GLBX: not in the catalogue catalogue; it holds nothing yet"),
        (["show", "rec", "--output", "x.gif"], "--output: found x.gif; allowed a name that ends in .html or .png"),
        (["show", "rec", "--instrument", "NQH4.GLBX"], "--instrument: found NQH4.GLBX; allowed ESH4.GLBX"),
        (["show", "rec", "--from", "yesterday"], "--from: found yesterday; allowed an ISO time"),
        (["show", "rec", "--from", "2024-01-02", "--to", "2024-01-01"], "--from: found a time that is not before --to"),
        (["export", "rec", "--output", "x.xls"], "--output: found x.xls; allowed a name that ends in .csv or .parquet"),
        (["export", "rec", "--output", "x.csv", "--what", "orders"], "--what: found orders; allowed books, trades, bars"),
        (["export", "rec", "--output", "x.csv", "--what", "bars"], "no bars in there to export"),
        ([], "Missing command"),
    ],
)
def test_what_cannot_be_done_is_refused_with_exit_2_and_one_line(run: Run, recording: Path, arguments: list[str], refusal: str) -> None:
    code, printed, error = run("data", *arguments)

    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert refusal in error


def test_a_market_may_be_an_entry_of_the_catalogue(run: Run, recording: Path) -> None:
    run("data", "import", "rec")

    assert read_market(["ESH4.GLBX/2023-12-26"]) == ("ESH4.GLBX/2023-12-26",)
    assert run("doctor", "--market", "NQH4.GLBX")[2].startswith("error: --market: found no such file: NQH4.GLBX")
