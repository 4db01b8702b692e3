"""The catalogue: everything or nothing comes in, what is in is checked to the byte, and it replays as it was."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.errors import ConfigError, IntegrityError, StartRefused, StorageError
from framework.market.catalogue import importing
from framework.market.catalogue.checking import check_entries
from framework.market.catalogue.importing import ImportOptions, import_files
from framework.market.catalogue.index import INDEX, STAGING, Catalogue
from framework.market.catalogue.reading import Market, Span, is_known, open_market, paths_of
from framework.market.catalogue.sessions import Sessions
from framework.market.formats import open_source
from framework.market.recording import Recorder
from framework.messages import BookSnapshot, SessionChanged
from framework.model import NS_PER_S, Instrument

DAY_NS = 86_400 * NS_PER_S


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "catalogue")


@pytest.fixture
def record(tmp_path: Path, instrument: Instrument) -> Any:
    """Return a function that makes a recording of some events."""

    def recorded(name: str, events: list[Any]) -> Path:
        recorder = Recorder(tmp_path / name, [instrument], may_wait=True)
        recorder.start()
        for event in events:
            recorder.record(event)
        recorder.close()
        return tmp_path / name

    return recorded


def bring(catalogue: Catalogue, *paths: Path, **settings: Any) -> Any:
    return import_files(catalogue, paths, ImportOptions(**settings))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


# --- in ------------------------------------------------------------------------------------------------------------------


def test_a_recording_comes_in_by_session_and_replays_as_it_was(catalogue: Catalogue, record: Any, book: Any, trade: Any) -> None:
    later = {"ts_event": book(0).ts_event + DAY_NS}
    events = [book(0), trade(1), book(1), book(2, **later), trade(2, **later)]

    report = bring(catalogue, record("run", events))

    assert [(one.key, one.books, one.trades) for one in report.imported] == [
        ("ESH4.GLBX/2023-11-14", 2, 1), ("ESH4.GLBX/2023-11-15", 1, 1),
    ]  # fmt: skip
    assert list(open_market(["ESH4.GLBX"], catalogue).read()) == events
    assert list(open_market(["ESH4.GLBX/2023-11-14"], catalogue).read()) == events[:3]


def test_gaps_are_marked_with_their_reason(catalogue: Catalogue, record: Any, book: Any) -> None:
    closed, opened = (
        SessionChanged(instrument_id="ESH4.GLBX", ts_event=book(number).ts_event, is_open=is_open, reason="halt")
        for number, is_open in ((3, False), (5, True))
    )
    silent = book(6).ts_event + 61 * NS_PER_S

    (entry,) = bring(catalogue, record("run", [book(0), closed, opened, book(6), book(7, ts_event=silent)])).imported

    assert [(gap.reason, gap.end_ns - gap.begin_ns) for gap in entry.gaps] == [("halt", NS_PER_S // 5), ("no events", 61 * NS_PER_S)]


def test_the_same_files_again_change_nothing_and_other_files_are_refused_unless_they_replace(
    catalogue: Catalogue, record: Any, book: Any
) -> None:
    first, other = record("a", [book(0)]), record("b", [book(1), book(2)])
    bring(catalogue, first)
    before = files_of(catalogue.root)

    assert bring(catalogue, first).unchanged == ("ESH4.GLBX/2023-11-14",)
    with pytest.raises(ConfigError, match=r"ESH4\.GLBX/2023-11-14: is in the catalogue already, from .*; --replace replaces it"):
        bring(catalogue, other)
    assert files_of(catalogue.root) == before

    bring(catalogue, other, is_replacing=True)
    assert list(open_market(["ESH4.GLBX"], catalogue).read()) == [book(1), book(2)]
    assert len([path for path in (catalogue.root / "ESH4.GLBX").iterdir()]) == 1


def test_a_crossed_book_is_refused_with_its_prices_or_left_out_and_counted(catalogue: Catalogue, record: Any, book: Any) -> None:
    path = record("run", [book(0), book(1, bid_ticks=(105, 104))])

    with pytest.raises(ConfigError, match=r"crossed or locked \(bid 26\.25, ask 25\.25\); .* --on-crossed skip"):
        bring(catalogue, path)
    assert not (catalogue.root / INDEX).exists()

    report = bring(catalogue, path, on_crossed="skip")
    assert report.notes == {"crossed or locked books left out": 1}
    assert report.imported[0].books == 1


def test_events_that_go_back_in_time_are_refused(catalogue: Catalogue, record: Any, book: Any) -> None:
    with pytest.raises(ConfigError, match="is earlier than the event before it; sort the file by time"):
        bring(catalogue, record("run", [book(5), book(3)]))


# --- nothing half done is ever visible -----------------------------------------------------------------------------------


@pytest.mark.parametrize("writes_before", [0, 1, 2, 3, 4])
def test_a_disk_that_fills_at_any_write_leaves_the_catalogue_as_it_was(
    catalogue: Catalogue, record: Any, book: Any, monkeypatch: pytest.MonkeyPatch, writes_before: int
) -> None:
    bring(catalogue, record("first", [book(0)]))
    before = files_of(catalogue.root)
    written: list[int] = []

    def fsync(_: int) -> None:
        written.append(1)
        if len(written) > writes_before:
            raise OSError(28, "No space left on device")

    path = record("second", [book(1, ts_event=book(1).ts_event + DAY_NS), book(2, ts_event=book(2).ts_event + 2 * DAY_NS)])
    monkeypatch.setattr("framework.dataset.parts.os.fsync", fsync)
    with pytest.raises(StorageError, match="cannot be written: No space left on device; free space or choose another"):
        bring(catalogue, path)
    monkeypatch.undo()

    assert catalogue.read().entries.keys() == {"ESH4.GLBX/2023-11-14"}
    left = files_of(catalogue.root)
    assert {name: left[name] for name in before} == before
    assert list(catalogue.root.glob(f"{STAGING}*")) == []
    assert len(bring(catalogue, path).imported) == 2


def test_a_real_limit_on_file_sizes_ends_in_exit_5_and_nothing_is_left(catalogue: Catalogue, record: Any, book: Any) -> None:
    path = record("run", [book(number) for number in range(3_000)])

    done = subprocess.run(
        [sys.executable, "-B", "main.py", "data", "import", str(path), "--catalogue", str(catalogue.root)],  # -B: no torn byte code
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096)),
    )

    assert (done.returncode, done.stderr.count("error: ")) == (5, 1)
    assert "free space" in done.stderr
    assert files_of(catalogue.root) == {}


@pytest.mark.parametrize("killed_at", ["_move", "sync_directory"])
def test_a_killed_import_leaves_nothing_that_anybody_reads_and_the_next_one_cleans_up(
    catalogue: Catalogue, record: Any, book: Any, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    path = record("run", [book(0)])
    monkeypatch.setattr(importing, killed_at, die)
    monkeypatch.setattr("framework.market.catalogue.importing.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(Killed):
        bring(catalogue, path)
    monkeypatch.undo()

    assert catalogue.read().entries == {}
    with pytest.raises(ConfigError, match="not in the catalogue"):
        catalogue.find("ESH4.GLBX")
    assert len(bring(catalogue, path).imported) == 1
    assert list(open_market(["ESH4.GLBX"], catalogue).read()) == [book(0)]
    assert list(catalogue.root.glob(f"{STAGING}*")) == []


def test_two_imports_at_once_are_refused(catalogue: Catalogue, record: Any, book: Any) -> None:
    path = record("run", [book(0)])
    with catalogue.writing(), pytest.raises(StartRefused, match="another import is writing there; wait for it"):
        bring(catalogue, path)


# --- what is in is checked -----------------------------------------------------------------------------------------------


def test_a_sound_catalogue_is_said_to_be_sound(catalogue: Catalogue, record: Any, book: Any) -> None:
    bring(catalogue, record("run", [book(0), book(1)]))

    (finding,) = check_entries(catalogue, list(catalogue.read().entries.values()))

    assert (finding.entry, finding.events, finding.fault) == ("ESH4.GLBX/2023-11-14", 2, "")


def test_every_flipped_bit_is_found_and_named(catalogue: Catalogue, record: Any, book: Any) -> None:
    (entry,) = bring(catalogue, record("run", [book(0), book(1)])).imported
    for path in sorted(catalogue.path_of(entry).iterdir()):
        sound = path.read_bytes()
        for at in range(0, len(sound), max(1, len(sound) // 12)):
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
            (finding,) = check_entries(catalogue, [entry])
            assert str(catalogue.path_of(entry)) in finding.fault
        path.write_bytes(sound)


def test_a_damaged_index_is_refused_with_a_way_out(catalogue: Catalogue, record: Any, book: Any) -> None:
    bring(catalogue, record("run", [book(0)]))
    path = catalogue.root / INDEX
    path.write_bytes(path.read_bytes().replace(b"2023-11-14", b"2023-11-15"))

    with pytest.raises(IntegrityError, match="does not match its own checksum; restore it, or import again"):
        catalogue.read()


# --- names ---------------------------------------------------------------------------------------------------------------


def test_a_name_is_a_file_an_entry_an_instrument_or_a_folder_of_the_catalogue(catalogue: Catalogue, record: Any, book: Any) -> None:
    path = record("run", [book(0)])
    (entry,) = bring(catalogue, path).imported
    expected = [catalogue.path_of(entry)]

    assert paths_of(str(path)) == [path]
    for name in (entry.key, "ESH4.GLBX", str(catalogue.path_of(entry)), str(catalogue.root / "ESH4.GLBX"), str(catalogue.root)):
        assert paths_of(name, catalogue) == expected
    assert is_known("ESH4.GLBX", catalogue)
    assert not is_known("NQH4.GLBX", catalogue)
    with pytest.raises(ConfigError, match=r"NQH4\.GLBX: not in the catalogue .*; it holds ESH4\.GLBX"):
        paths_of("NQH4.GLBX", catalogue)


def test_a_span_is_all_that_is_read(catalogue: Catalogue, record: Any, book: Any) -> None:
    bring(catalogue, record("run", [book(number) for number in range(10)]))

    events = Market("ESH4.GLBX", catalogue).events(Span(begin_ns=book(3).ts_event, end_ns=book(5).ts_event))

    assert list(events) == [book(3), book(4), book(5)]


@pytest.mark.parametrize(
    ("venue", "at", "session"),
    [
        ("GLBX", "2023-12-25T22:59:59", "2023-12-25"),
        ("GLBX", "2023-12-25T23:00:00", "2023-12-26"),
        ("GLBX", "2023-12-22T23:30:00", "2023-12-25"),
        ("GLBX", "2024-07-01T22:00:00", "2024-07-02"),
        ("SHFE", "2025-06-06T12:59:00", "2025-06-09"),
        ("SHFE", "2025-06-09T07:00:00", "2025-06-09"),
        ("NASDAQ", "2012-06-21T13:30:00", "2012-06-21"),
        ("BINANCEUM", "2024-07-20T23:59:59", "2024-07-20"),
    ],
)
def test_a_session_is_the_trading_day_of_its_venue(venue: str, at: str, session: str) -> None:
    ts = round(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) * NS_PER_S

    assert Sessions(venue).session_of(ts) == session


def test_the_index_is_one_readable_file(catalogue: Catalogue, record: Any, book: Any, instrument: Instrument) -> None:
    bring(catalogue, record("run", [book(0)]))

    told = json.loads((catalogue.root / INDEX).read_text())["index"]

    assert told["instruments"]["ESH4.GLBX"]["instrument"]["tick_size"] == "0.25"
    assert Decimal(told["instruments"]["ESH4.GLBX"]["instrument"]["multiplier"]) == instrument.multiplier
    assert told["entries"]["ESH4.GLBX/2023-11-14"]["origins"][0]["sha256"]


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_recorded_packets_come_in_with_both_feeds_as_origins_and_replay_the_same(catalogue: Catalogue, recordings: Path) -> None:
    paths = sorted((recordings / "cme_es_mdp3_pcap").glob("*.xz"))

    (entry,) = bring(catalogue, *paths).imported

    assert (entry.key, entry.books, entry.trades) == ("ES#37699.CME/2019-08-29", 19_005, 844)
    assert [origin.name for origin in entry.origins] == [path.name for path in paths]
    replayed = list(open_market([entry.key], catalogue).read())
    assert sum(isinstance(event, BookSnapshot) for event in replayed) == 19_005


@pytest.mark.recordings
def test_a_recorded_binance_night_is_two_sessions_of_one_stream(catalogue: Catalogue, recordings: Path) -> None:
    paths = [recordings / "binance_futures_l2" / f"usdm_btcusdt_202407{day}.gz" for day in (18, 19)]

    report = bring(catalogue, *paths)

    assert [one.key for one in report.imported] == ["BTCUSDT.BINANCEUM/2024-07-18", "BTCUSDT.BINANCEUM/2024-07-19"]
    assert [one.events for one in report.imported] == [4_295, 15_423]
    whole = list(open_market([str(path) for path in paths]).read())
    assert list(open_market(["BTCUSDT.BINANCEUM"], catalogue).read()) == whole


def test_the_recordings_of_start_are_entries_too(catalogue: Catalogue, record: Any, book: Any) -> None:
    path = record("run", [book(0), book(1)])
    (entry,) = bring(catalogue, path).imported

    assert list(open_source(catalogue.path_of(entry)).events(0)) == list(open_source(path).events(0))
    assert os.listdir(catalogue.path_of(entry)) != []
