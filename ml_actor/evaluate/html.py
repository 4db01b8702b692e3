"""The report as one HTML file that needs nothing else: tables, and plots as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from framework.model import NS_PER_S
from framework.plots import COLOURS, GREY, Axes, Series, bar_chart, line_chart
from ml_actor.labels import CLASSES

SCORES: Final = {
    "log_loss": "log-loss",
    "brier": "Brier",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1_largest": "macro-F1, largest",
    "mcc_largest": "MCC, largest",
    "balanced_accuracy_largest": "bal. acc., largest",
    "macro_f1_even": "macro-F1, even",
    "mcc_even": "MCC, even",
    "balanced_accuracy_even": "bal. acc., even",
    "auc_up_down": "AUC up / down",
    "ece": "ECE",
}
LATENCIES: Final = {"0": "0 ms", "5": "5 ms", "50": "50 ms", "250": "250 ms", "next_row": "next row"}
GROUPS: Final = {
    "sessions": "Sessions",
    "regimes": "Regimes (thirds of the training part by how much the mid moved over 100 rows)",
    "folds": "Folds",
}

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#1f2328;background:#fff}
h1{font-size:1.5em}h2{margin-top:2em;border-bottom:1px solid #d0d7de}h3{margin:1.4em 0 .3em;font-size:1em}
table{border-collapse:collapse;font-size:13px;margin:.4em 0}td,th{padding:3px 9px;text-align:right;border-bottom:1px solid #eaeef2}
th{font-weight:600}td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:12px}
figure{margin:0;flex:1 1 430px;max-width:480px}figcaption{font-size:13px;font-weight:600;margin:.4em 0}
svg{width:100%;height:auto;background:#fbfcfd;border:1px solid #eaeef2}svg text{font-size:11px;fill:#424a53}
.grid{stroke:#eaeef2}.zero{stroke:#57606a}.note,small{color:#57606a;font-size:13px}
.alarm{background:#fff1e5;border-left:4px solid #d1761a;padding:.5em 1em}
.best td{font-weight:600}code{font-size:12px;overflow-wrap:anywhere}.wide{overflow-x:auto}
"""


MAX_FEATURES: Final = 15

_METHOD: Final = (
    "Rows are books in the order of the file. Scored are rows with 100 earlier rows in their session whose horizon ends in it; of several "
    "rows with one time stamp the last. Intervals: {blocks} blocks or fewer, twice as long as a label lives, drawn 1,000 times. Macro-F1, "
    "MCC and balanced accuracy are of the class that a model names by the rule that its training part chose; largest: of the largest "
    "probability; even: of the probability that is largest against its share in the training part. A taker crosses the spread and pays the "
    "fee twice; that this loses money is what an honest report shows. Move and net at a latency count from the last book at or before it; "
    "next row: from the row after. Importance: the log-loss lost when that input is decoupled from the others."
)


def report_html(report: Mapping[str, Any]) -> str:
    """Return the whole page."""
    title = f"Evaluation of {report['model']}"
    parts = [f"<h1>{escape(title)}</h1>", _facts(report), _alarms(report), _scores(report), _skill(report)]
    parts += [_horizon(horizon, scored, report) for horizon, scored in report["horizons"].items()]
    parts += [_features(report), _method(report)]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; every cell is escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def spread(scored: Mapping[str, Any], digits: int = 3) -> str:
    """Return a value with its interval."""
    low, high = scored["interval"]
    return f"{number(scored['value'], digits)} [{number(low, digits)}, {number(high, digits)}]"


def _facts(report: Mapping[str, Any]) -> str:
    rows = [
        (
            f"fold {fold['number']}" if len(report["folds"]) > 1 else "split",
            side,
            part["file"],
            part["instrument_id"],
            f"{part['rows']:,}",
            number(part["fee_ticks"]),
        )
        for fold in report["folds"]
        for side in ("train", "test")
        for part in fold[side]
    ]
    facts = f"label {report['label']}, seed {report['seed']}, try number {report['trials']} at this test"
    head = ("fold", "part", "file", "instrument", "rows", "taker fee, ticks a fill")
    return f"<p>{escape(facts)}</p><p><code>{escape(report['command'])}</code></p>{table(head, rows)}"


def _alarms(report: Mapping[str, Any]) -> str:
    return "".join(f'<p class="alarm"><b>Doubtful.</b> {escape(alarm)}</p>' for alarm in report["alarms"])


def _scores(report: Mapping[str, Any]) -> str:
    parts = ["<h2>Scores</h2>", '<p class="note">In brackets: 95 % block-bootstrap intervals.</p>']
    for horizon, scored in report["horizons"].items():
        rows = [(_name(who, report), *(spread(values[score]) for score in SCORES)) for who, values in scored["scores"].items()]
        shares = ", ".join(f"{share:.1%} {name}" for share, name in zip(scored["shares"], CLASSES, strict=True))
        parts.append(
            f"<h3>{escape(horizon)} rows ahead: {scored['rows']:,} scored, {escape(shares)}</h3>{table(('', *SCORES.values()), rows)}"
        )
    return "".join(parts)


def _name(who: str, report: Mapping[str, Any]) -> str:
    return str(report["model"]) if who == "model" else who


def _skill(report: Mapping[str, Any]) -> str:
    rows = []
    for horizon, scored in report["horizons"].items():
        gain, net = scored["deflated"]["gain"], scored["deflated"]["net"]
        saved = spread(scored["gain"]["log_loss"], 4)
        chances = (number(gain["probability"]), number(net["probability"]))
        rows.append(
            (
                horizon,
                scored["gain"]["over"],
                saved,
                str(gain["blocks"]),
                str(gain["trials"]),
                number(gain["sharpe"]),
                number(gain["luck"]),
                *chances,
            )
        )
    head = (
        "rows ahead",
        "best baseline",
        "log-loss saved",
        "blocks",
        "tries",
        "Sharpe a block",
        "of the luckiest try",
        "probability of skill",
        "of a taker's profit at 5 %",
    )
    return f"<h2>Skill, deflated by the number of tries</h2>{table(head, rows)}"


def _horizon(horizon: str, scored: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    plots = {
        "Reliability": _reliability(scored),
        "Confusion of the calls": _confusion(scored),
        "Edge against latency, surest 5 %": _latency(scored),
        "Edge against confidence": _confidence(scored),
        "Log-loss over time": _over_time(scored, report),
        "Importance of inputs": _importance(horizon, report),
    }
    figures = "".join(f"<figure><figcaption>{escape(title)}</figcaption>{plot}</figure>" for title, plot in plots.items())
    groups = "".join(_group(title, scored[key]) for key, title in GROUPS.items() if key != "folds" or len(scored[key]) > 1)
    return f'<h2>{escape(horizon)} rows ahead</h2><div class="plots">{figures}</div>{_coverage(scored)}{groups}'


def _reliability(scored: Mapping[str, Any]) -> str:
    series = [Series(name="", x=(0.0, 1.0), y=(0.0, 1.0), colour=GREY, is_dashed=True, has_dots=False)]
    for place, name in enumerate(CLASSES):
        curve = scored["reliability"][name]
        points = curve["bins"]
        x, y = [point["claimed"] for point in points], [point["happened"] for point in points]
        series.append(Series(name=f"{name}, ECE {curve['ece']:.3f}", x=x, y=y, colour=COLOURS[(1, 3, 0)[place]]))
    return line_chart(Axes(x="claimed probability", y="share that happened"), series)


def _confusion(scored: Mapping[str, Any]) -> str:
    rows = []
    for said, counts in zip(CLASSES, scored["confusion"], strict=True):
        total = sum(counts)
        rows.append((f"said {said}", *(f"{count:,} ({count / total:.0%})" if total else "0" for count in counts), f"{total:,}"))
    return table(("", *(f"was {name}" for name in CLASSES), "rows"), rows)


def _latency(scored: Mapping[str, Any]) -> str:
    found = scored["coverage"]["0.05"]["by_latency"]
    series = []
    for place, (key, name) in enumerate((("move_ticks", "move of the mid"), ("net_ticks", "a taker's net"))):
        values = [found[latency][key] for latency in LATENCIES]
        bars = [_bar(value) for value in values]
        series.append(Series(name=name, x=range(len(values)), y=[value["value"] for value in values], bars=bars, colour=COLOURS[place]))
    return line_chart(Axes(x="from prediction to fill", y="ticks", places=tuple(LATENCIES.values()), has_zero=True), series)


def _bar(value: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = value["interval"]
    return None if low is None or high is None else (low, high)


def _confidence(scored: Mapping[str, Any]) -> str:
    bins = scored["confidence"]
    series = Series(name="", x=[one["confidence"] for one in bins], y=[one["move_ticks"] for one in bins])
    return line_chart(Axes(x="|p up - p down|", y="move in the called direction, ticks", has_zero=True), [series])


def _over_time(scored: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    points = scored["over_time"]
    places = range(len(points))
    series = [
        Series(name=_name("model", report), x=places, y=[one["model"] for one in points], has_dots=False),
        Series(name=scored["gain"]["over"], x=places, y=[one["baseline"] for one in points], colour=GREY, has_dots=False),
    ]
    first, last = (_time(points[place]["ts_event"]) for place in (0, -1))
    return line_chart(Axes(x=f"stretches of equal rows, {first} to {last} UTC", y="log-loss"), series)


def _importance(horizon: str, report: Mapping[str, Any]) -> str:
    found = report["importance"].get(horizon, {})
    bars = sorted(found.items(), key=lambda item: -item[1])
    return bar_chart("log-loss lost without it", bars)


def _coverage(scored: Mapping[str, Any]) -> str:
    rows = []
    for coverage, row in scored["coverage"].items():
        for latency, name in LATENCIES.items():
            found = row["by_latency"][latency]
            first = (f"{float(coverage):.0%}", f"{row['calls']:,}", spread(row["precision"])) if latency == "0" else ("", "", "")
            rows.append((*first, name, spread(found["move_ticks"]), spread(found["net_ticks"])))
    head = ("coverage", "calls", "precision", "latency", "move of the mid, ticks", "a taker's net, ticks")
    return f"<h3>The surest calls</h3>{table(head, rows)}"


def _group(title: str, groups: Sequence[Mapping[str, Any]]) -> str:
    names = ("log_loss", "best_baseline", "mcc", "auc_up_down", "ece", "share_flat")
    rows = [(str(one["name"]), f"{one['rows']:,}", *(number(one[name]) for name in names)) for one in groups]
    head = ("", "rows", "log-loss", "best baseline's", "MCC", "AUC up / down", "ECE", "share flat")
    return f"<h3>{escape(title)}</h3>{table(head, rows)}"


def _features(report: Mapping[str, Any]) -> str:
    """Return what each member of the last model says itself about its features, the largest first."""
    last = report["models"][max(report["models"], key=int)]
    found = last.get("importance") or {}
    figures = []
    for member, values in found.items():
        largest = sorted(values.items(), key=lambda item: -abs(item[1]))[:MAX_FEATURES]
        figures.append(f"<figure><figcaption>{escape(str(member))}</figcaption>{bar_chart('share of its importance', largest)}</figure>")
    return f'<h2>Features, as each member weighs them</h2><div class="plots">{"".join(figures)}</div>' if figures else ""


def _method(report: Mapping[str, Any]) -> str:
    first = next(iter(report["horizons"].values()))
    text = _METHOD.format(blocks=first["blocks"])
    return f"<h2>How to read it</h2><p>{escape(text)}</p>"


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M")
