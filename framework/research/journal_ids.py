"""Ids of predictions and orders in a journal: which there are, and which are nearest to one that is not there."""

from __future__ import annotations

import difflib
import re
from typing import Final, NoReturn

from framework.errors import ConfigError
from framework.logs import foreign
from framework.messages import PredictionReceived, SubmitOrder
from framework.trading.journal_view import JournalView

NEAREST: Final = 3
IDS_LOOKED_AT: Final = 200_000
_NAMES_COMPARED: Final = 10_000
_NUMBERED: Final = re.compile(r"(.*?)(\d+)")


def refuse(journal: JournalView, name: str) -> NoReturn:
    """Raise `ConfigError`: nobody has this id; the words name the nearest ones."""
    raise ConfigError(f"no prediction or order {foreign(name, 80)} in the journal{_nearest(journal, name)}")


def _nearest(journal: JournalView, name: str) -> str:
    predictions = [record.prediction.prediction_id for record in journal.newest(PredictionReceived, IDS_LOOKED_AT)]
    ids = predictions + journal.newest_keys(SubmitOrder, IDS_LOOKED_AT)
    if not ids:
        return "; it holds neither"
    asked = _NUMBERED.fullmatch(name)
    alike = [(one, match) for one in ids if (match := _NUMBERED.fullmatch(one)) and asked and match[1] == asked[1]]
    if asked and alike:
        close = sorted(alike, key=lambda pair: abs(int(pair[1][2]) - int(asked[2])))[:NEAREST]
        return f"; nearest: {', '.join(foreign(one, 80) for one, _ in close)}"
    compared = ids[:_NAMES_COMPARED] + ids[len(predictions) :][:_NAMES_COMPARED]
    close_names = difflib.get_close_matches(name, dict.fromkeys(compared), n=NEAREST, cutoff=0.3) or ids[:NEAREST]
    return f"; nearest: {', '.join(foreign(one, 80) for one in close_names)}"
