"""Verbs of the catalogue: data import, list, check, show, export."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from framework.cli.options import JsonOption
from framework.cli.output import say, say_json
from framework.dataset.parts import replace_file
from framework.errors import ConfigError, IntegrityError
from framework.logs import foreign
from framework.market.catalogue.checking import check_entries
from framework.market.catalogue.exporting import WHAT, export_events, mapping_of
from framework.market.catalogue.heatmap import collect, draw_html, draw_png
from framework.market.catalogue.importing import ImportOptions, import_files
from framework.market.catalogue.index import DEFAULT_ROOT, Catalogue, Entry
from framework.market.catalogue.reading import Market
from framework.progress import progress_bar
from framework.research.data_spans import read_span
from framework.research.data_views import catalogue_view, facts_view, findings_view, import_view

CatalogueOption = Annotated[Path, typer.Option("--catalogue", metavar="DIR", help="The folder of the catalogue.")]
FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of any format that --market reads.")]
MappingOption = Annotated[Path | None, typer.Option("--mapping", metavar="FILE", help="What the columns of the CSV files mean.")]
CrossedOption = Annotated[str, typer.Option("--on-crossed", metavar="refuse|skip", help="What to do with a crossed or locked book.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace sessions that are there from other files.")]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[ENTRY...]", help="Entries or instruments; default all.")]
NameArgument = Annotated[str, typer.Argument(metavar="ENTRY", help="An entry, an instrument, a recording's folder or file, or ES.c.0.CME.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Begin there, ISO, UTC.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End there, ISO, UTC.")]
PictureOption = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Draw the depth heatmap: a name in .html or .png.")]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", metavar="ID", help="Which one, where there are several.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the picture in the browser.")]
TableOption = Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to: a name in .csv or .parquet.")]
WhatOption = Annotated[str, typer.Option("--what", metavar="books|trades|bars", help="Which events.")]

EXAMPLES: Final = {
    "import": "data import rb_20250605.parquet rb_20250606.parquet",
    "list": "data list ESH4.GLBX --json",
    "check": "data check",
    "show": "data show ESH4.GLBX/2023-12-26 --from 2023-12-25T23:00 --to 2023-12-25T23:10 --output depth.html",
    "export": "data export ESH4.GLBX/2023-12-26 --what trades --output trades.csv",
}


def build() -> typer.Typer:
    """Return the group of verbs."""
    group = typer.Typer(help="Recordings of any origin in one catalogue: import, list, check, show, export.")
    verbs: dict[str, Callable[..., int]] = {
        "import": import_data, "list": list_data, "check": check_data, "show": show_data, "export": export_data,
    }  # fmt: skip
    for name, verb in verbs.items():
        group.command(name, epilog=f"Example: python main.py {EXAMPLES[name]}")(verb)
    return group


def import_data(
    *,
    files: FilesArgument,
    catalogue: CatalogueOption = DEFAULT_ROOT,
    mapping: MappingOption = None,
    on_crossed: CrossedOption = "refuse",
    is_replacing: ReplaceOption = False,
    is_json: JsonOption = False,
) -> int:
    """Bring recordings into the catalogue: all of the files, or nothing. Files that go on from one another are named together."""
    if on_crossed not in ("refuse", "skip"):
        raise ConfigError(f"--on-crossed: found {foreign(on_crossed, 60)}; allowed refuse or skip")
    options = ImportOptions(mapping=mapping, on_crossed="skip" if on_crossed == "skip" else "refuse", is_replacing=is_replacing)
    with _progress("importing", is_json=is_json) as on_share:
        report = import_files(Catalogue(catalogue), files, options, on_share)
    if is_json:
        say_json(report)
    else:
        say(import_view(report))
    return 0


def list_data(*, names: NamesArgument = None, catalogue: CatalogueOption = DEFAULT_ROOT, is_json: JsonOption = False) -> int:
    """List what the catalogue holds; of named instruments also definitions, gaps and origins."""
    index = Catalogue(catalogue).read()
    entries = _entries(Catalogue(catalogue), names)
    if is_json:
        say_json({"entries": entries, "instruments": index.instruments})
    elif names:
        for name in sorted({entry.instrument_id for entry in entries}):
            say(facts_view(index, [entry for entry in entries if entry.instrument_id == name]))
    else:
        say(catalogue_view(entries))
    return 0


def check_data(*, names: NamesArgument = None, catalogue: CatalogueOption = DEFAULT_ROOT, is_json: JsonOption = False) -> int:
    """Compare every byte with its checksum and every row with the index; exit 6 if something is damaged."""
    with _progress("checking", is_json=is_json) as on_share:
        findings = check_entries(Catalogue(catalogue), _entries(Catalogue(catalogue), names), on_share)
    if is_json:
        say_json(findings)
    else:
        say(findings_view(findings))
    return IntegrityError.exit_code if any(one.fault for one in findings) else 0


def show_data(
    *,
    name: NameArgument,
    catalogue: CatalogueOption = DEFAULT_ROOT,
    instrument: InstrumentOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    output: PictureOption = None,
    is_opening: OpenOption = False,
    is_json: JsonOption = False,
) -> int:
    """Draw the depth heatmap with its trades (bars as candles) as one HTML page or PNG file that needs nothing else."""
    output = output or Path(f"{name.strip('/').replace('/', '_')}.html")
    if output.suffix not in (".html", ".png"):
        raise ConfigError(f"--output: found {foreign(output.name, 80)}; allowed a name that ends in .html or .png")
    span = read_span(begin, end)
    market = Market(name, Catalogue(catalogue))
    shown = market.instrument(instrument)
    begin_ns, end_ns = max(market.start_ns, span.begin_ns or 0), min(market.end_ns, span.end_ns or market.end_ns)
    with _progress("drawing", is_json=is_json) as on_share:
        sheet = collect(market.events(span, on_share), shown, begin_ns, end_ns)
    title = f"{shown.instrument_id} depth" if sheet.books else f"{shown.instrument_id} bars"
    replace_file(output, draw_png(sheet) if output.suffix == ".png" else draw_html(sheet, title).encode())
    if is_json:
        say_json({"output": str(output), "events": sheet.events, "from_ns": begin_ns, "to_ns": end_ns})
    else:
        say(f"{output}: {sheet.events:,} events drawn")
    if is_opening:
        webbrowser.open(output.resolve().as_uri())
    return 0


def export_data(
    *,
    name: NameArgument,
    output: TableOption,
    what: WhatOption = "books",
    catalogue: CatalogueOption = DEFAULT_ROOT,
    begin: FromOption = None,
    end: ToOption = None,
    is_json: JsonOption = False,
) -> int:
    """Write books, trades or bars as a table in prices. A CSV of one instrument gets the mapping file with which it comes back."""
    if what not in WHAT:
        raise ConfigError(f"--what: found {foreign(what, 60)}; allowed {', '.join(WHAT)}")
    market = Market(name, Catalogue(catalogue))
    span = read_span(begin, end)
    with _progress("exporting", is_json=is_json) as on_share:
        rows = export_events(market.events(span, on_share), market.instruments, what, output)
    if output.suffix == ".csv" and len(market.instruments) == 1:
        replace_file(output.with_name(f"{output.name}.yaml"), mapping_of(market.instrument(None), what, market.interval_s()).encode())
    if is_json:
        say_json({"output": str(output), "rows": rows})
    else:
        say(f"{output}: {rows:,} {what}")
    return 0


def _entries(catalogue: Catalogue, names: list[str] | None) -> list[Entry]:
    if not names:
        return list(catalogue.read().entries.values())
    found = {entry.key: entry for name in names for entry in catalogue.find(name.strip("/"))}
    return list(found.values())


@contextmanager
def _progress(what: str, *, is_json: bool) -> Iterator[Callable[[float, str], None]]:
    with progress_bar(is_quiet=is_json) as on_progress:
        yield lambda share, name: on_progress(f"{what} {name}", share)
