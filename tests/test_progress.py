"""Progress: a bar where somebody watches, the other way elsewhere."""

from __future__ import annotations

import pytest

from framework.progress import progress_bar, unseen


def test_where_nobody_watches_the_other_way_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, float]] = []

    with progress_bar(otherwise=lambda stage, share: told.append((stage, share))) as on_progress:
        on_progress("reading", 0.5)

    assert told == [("reading", 0.5)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_quiet", [False, True])
def test_a_terminal_shows_the_bar_unless_it_should_be_quiet(
    is_quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    with progress_bar(is_quiet=is_quiet, is_kept=True) as on_progress:
        on_progress("reading a file \x1b[31m", 1.0)

    assert (on_progress is unseen) == is_quiet
    shown = capsys.readouterr().err
    assert ("reading a file \\x1b[31m" in shown and "100" in shown) != is_quiet
