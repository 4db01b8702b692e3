"""The strict loader: every refusal with file, line, column, what was found and what is allowed."""

from __future__ import annotations

import json
import os
import pickle
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from framework.config import MainConfig, Money, Settings, StrategyFile
from framework.errors import ConfigError
from framework.strict_yaml import (
    MAX_BYTES,
    ConfigFileError,
    SourceFloat,
    load,
    load_main_config,
    load_strategy_file,
    load_strategy_text,
    parse,
    validate,
)
from framework.strict_yaml.scalars import read_plain

KNOWN = "ml_service, training, risk, paper, simulated_market, replay"


def complaints(text: str, model: type[Settings] = MainConfig) -> list[str]:
    with pytest.raises(ConfigFileError) as caught:
        validate(parse(text, "f.yaml"), model)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def complaint(text: str, model: type[Settings] = MainConfig) -> str:
    (only,) = complaints(text, model)
    return only


# --- keys --------------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    assert complaint("ml_service: {}\ntrainig: {}") == f"f.yaml:2:1: trainig: found an unknown key; allowed {KNOWN}; did you mean training?"


def test_an_unknown_key_like_no_other_is_refused_with_the_known_ones() -> None:
    assert complaint("xyzzy: 1") == f"f.yaml:1:1: xyzzy: found an unknown key; allowed {KNOWN}"


def test_an_unknown_nested_key_is_named_with_its_path() -> None:
    text = "paper:\n  order_latency_ms: 1.0\n  maker_fees: 2\n"

    assert complaint(text) == (
        "f.yaml:3:3: paper.maker_fees: found an unknown key; allowed order_latency_ms, response_latency_ms, "
        "feed_latency_ms, latency_spread, latency_seed, latency_profile, queue_model, queue_power, maker_fee, taker_fee, "
        "bar_fills, bar_slippage_ticks, bar_through_ticks, bar_volume_share, own_process, cash, margins; did you mean maker_fee?"
    )


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    text = "risk:\n  max_position: 1\n  max_open_orders: 2\n  max_position: 3\n"

    assert complaint(text) == "f.yaml:4:3: risk.max_position: found a second time; allowed once (first in line 2)"


def test_a_block_given_twice_is_refused_and_its_keys_with_it() -> None:
    assert complaints("risk: {max_position: 1}\nrisk: {max_position: 2}") == [
        "f.yaml:2:1: risk: found a second time; allowed once (first in line 1)",
        "f.yaml:2:8: risk.max_position: found a second time; allowed once (first in line 1)",
    ]


@pytest.mark.parametrize("key", ["ON", "no", "Yes", "off", "true", "null", "~", "<<", "=", "0755", "12:30:45", "1e3", "7", ".nan"])
def test_a_key_that_is_no_name_is_refused(key: str) -> None:
    assert complaint(f"{key}: 1") == f"f.yaml:1:1: {key}: found the key {key}; allowed a name (no merge keys, switches or numbers)"


@pytest.mark.parametrize(("text", "kind"), [("? {a: 1}\n: 2", "block"), ("? [a]\n: 2", "list"), ("[a]: 2", "list")])
def test_a_key_that_is_a_structure_is_refused(text: str, kind: str) -> None:
    assert complaint(text).endswith(f"found a {kind} as a key; allowed a name")


def test_a_missing_key_is_named() -> None:
    assert complaint("name: x\ninstrument_id: A.B", StrategyFile) == "f.yaml:1:1: strategy: found nothing; allowed module:Class"


# --- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ml_service: {client: {port: 70000}}", "1:29: ml_service.client.port: found 70000; allowed a whole number from 0 to 65535"),
        ("ml_service: {client: {port: -1}}", "1:29: ml_service.client.port: found -1; allowed a whole number from 0 to 65535"),
        (
            "ml_service: {client: {port: '5556'}}",
            '1:29: ml_service.client.port: found the text "5556"; allowed a whole number from 0 to 65535',
        ),
        ("ml_service: {client: {port: 5556.0}}", "1:29: ml_service.client.port: found 5556.0; allowed a whole number from 0 to 65535"),
        ("ml_service: {client: {port: 5e3}}", "1:29: ml_service.client.port: found 5e3; allowed a whole number from 0 to 65535"),
        ("ml_service: {client: {port: true}}", "1:29: ml_service.client.port: found true; allowed a whole number from 0 to 65535"),
        ("ml_service: {client: {host: 'a b'}}", '1:29: ml_service.client.host: found the text "a b"; allowed a host name or an address'),
        ("ml_service: {client: {host: 127}}", "1:29: ml_service.client.host: found 127; allowed a host name or an address"),
        ("ml_service: {timeout: 0}", "1:23: ml_service.timeout: found 0; allowed a number above 0 up to 1000000000"),
        ("ml_service: {timeout: -0.5}", "1:23: ml_service.timeout: found -0.5; allowed a number above 0 up to 1000000000"),
        ("ml_service: {timeout: true}", "1:23: ml_service.timeout: found true; allowed a number above 0 up to 1000000000"),
        ("ml_service: {timeout: '1e3'}", '1:23: ml_service.timeout: found the text "1e3"; allowed a number above 0 up to 1000000000'),
        ("ml_service: {timeout: [5]}", "1:23: ml_service.timeout: found a list; allowed a number above 0 up to 1000000000"),
        ("ml_service: {timeout: {s: 5}}", "1:23: ml_service.timeout: found keys and values; allowed a number above 0 up to 1000000000"),
        ("ml_service: {timeout: }", "1:23: ml_service.timeout: found nothing; allowed a number above 0 up to 1000000000"),
        ("ml_service: {use_binary: yes}", '1:26: ml_service.use_binary: found the text "yes"; allowed true or false'),
        ("ml_service: {use_binary: 1}", "1:26: ml_service.use_binary: found 1; allowed true or false"),
        ("ml_service: {use_binary: 'true'}", '1:26: ml_service.use_binary: found the text "true"; allowed true or false'),
        (
            "ml_service: {mode: spwan}",
            '1:20: ml_service.mode: found the text "spwan"; allowed one of spawn, external, off; did you mean spawn?',
        ),
        ("replay: 5", "1:9: replay: found 5; allowed keys and values (prediction_latency_ms)"),
        ("simulated_market: {signal_strength: 1.5}", "1:37: simulated_market.signal_strength: found 1.5; allowed a number from 0 to 1"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(text: str, expected: str) -> None:
    assert complaint(text) == f"f.yaml:{expected}"


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (".nan", "a finite number"),
        (".NaN", "a finite number"),
        (".inf", "a finite number"),
        ("-.Inf", "a finite number"),
        ("1e999", "a finite number"),
        ("0755", "a number without leading zeros (or quotes around a text)"),
        ("-01.5", "a number without leading zeros (or quotes around a text)"),
        ("0x1F", "a decimal number (or quotes around a text)"),
        ("0o17", "a decimal number (or quotes around a text)"),
        ("0b11", "a decimal number (or quotes around a text)"),
        ("12:30:45", "a plain number, in the unit of the key (or quotes around a text)"),
        ("1:30", "a plain number, in the unit of the key (or quotes around a text)"),
        ("1:30.5", "a plain number, in the unit of the key (or quotes around a text)"),
        ("5_000", "digits without underscores (or quotes around a text)"),
        ("1_0.5", "digits without underscores (or quotes around a text)"),
    ],
)
def test_what_readers_of_yaml_disagree_about_is_refused_everywhere(value: str, allowed: str) -> None:
    assert complaint(f"ml_service: {{timeout: {value}}}") == f"f.yaml:1:23: ml_service.timeout: found {value}; allowed {allowed}"
    free = f"name: x\nstrategy: m:C\ninstrument_id: A.B\nparameters:\n  levels: [1, {value}]"
    assert complaint(free, StrategyFile) == f"f.yaml:5:15: parameters.levels[1]: found {value}; allowed {allowed}"


def test_a_number_is_short() -> None:
    text = "training: {seed: " + "9" * 5_000 + "}"

    assert complaint(text) == "f.yaml:1:18: training.seed: found a number of 5000 characters; allowed at most 40"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("2024-01-15", "2024-01-15"),
        ("TIDE.SIM", "TIDE.SIM"),
        ("localhost:5556", "localhost:5556"),
        ("'12:30:45'", "12:30:45"),
        ("| \n   a\n   b\n", "a\nb\n"),
    ],
)
def test_a_scalar_is_typed_from_its_text(text: str, value: object) -> None:
    found = parse(f"key: {text}", "f.yaml").value["key"]

    assert found == value
    assert isinstance(found, type(value))


def test_off_is_a_mode_and_no_boolean() -> None:
    assert validate(parse("ml_service: {mode: off}", "f.yaml"), MainConfig).ml_service.mode == "off"


class Fees(Settings):
    fee: Money
    rate: float


def test_an_exact_field_gets_its_source_text_and_a_float_field_a_plain_float() -> None:
    fees = validate(parse("fee: 0.100\nrate: 0.10", "f.yaml"), Fees)

    assert str(fees.fee) == "0.100"
    assert type(fees.rate) is float


def test_a_source_float_keeps_its_text_through_a_pickle() -> None:
    copy = pickle.loads(pickle.dumps(SourceFloat("0.10")))

    assert (copy, str(copy), Decimal(str(copy))) == (0.1, "0.10", Decimal("0.10"))


# --- everything at once ------------------------------------------------------------------------------------------------


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
risk:
  max_position: 0
  max_positon: 5
ml_service:
  timeout: .nan
  client: {port: 99999}
  server: &anchor {port: 5556}
training: *anchor
"""

    found = complaints(text)

    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in found] == [
        "f.yaml:2:17 risk.max_position",
        "f.yaml:3:3 risk.max_positon",
        "f.yaml:5:12 ml_service.timeout",
        "f.yaml:6:18 ml_service.client.port",
        "f.yaml:7:11 ml_service.server",
        "f.yaml:8:11 training",
    ]


def test_a_flood_of_problems_is_cut() -> None:
    found = complaints("\n".join(f"key{number}: 1" for number in range(100)))

    assert len(found) == 21
    assert found[-1] == "f.yaml: and more problems"


def test_a_problem_is_one_line_whatever_the_file_holds() -> None:
    found = complaints('"a\\nb\\e[31m": 1\nml_service: {mode: "x\\n\\e[2Jy"}')

    assert found[0].startswith("f.yaml:1:1: a\\nb\\x1b[31m: found an unknown key")
    assert found[1].startswith('f.yaml:2:20: ml_service.mode: found the text "x\\\\n\\\\x1b[2Jy"; allowed one of spawn')


# --- what YAML can do and a settings file need not ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("risk: &a {}", "1:7: risk: found the anchor &a; allowed none"),
        ("risk: *a", "1:7: risk: found the alias *a; allowed the value itself"),
        ("risk: !!map {}", "1:7: risk: found the tag tag:yaml.org,2002:map; allowed none"),
        ("risk: !x {}", "1:7: risk: found the tag !x; allowed none"),
        ("risk: {max_position: !!int '5'}", "1:22: risk.max_position: found the tag tag:yaml.org,2002:int; allowed none"),
        (
            "risk: !!python/object/apply:os.system [ls]",
            "1:7: risk: found the tag tag:yaml.org,2002:python/object/apply:os.system; allowed none",
        ),
        ("&a risk: {}", "1:1: risk: found the anchor &a; allowed none"),
        ("*a : {}", "1:1: found an alias (*) as a key; allowed a name"),
        ("a: 1\n---\nb: 2", "2:1: found a second document; allowed one in a file"),
        ("%YAML 1.1\n---\na: 1", "1:1: found a directive (%); allowed none"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "1:1: found a directive (%); allowed none"),
        ("", "1:1: found an empty file; allowed keys and values"),
        ("# only a comment\n", "1:1: found an empty file; allowed keys and values"),
        ("---\n...\n", "1:1: found an empty file; allowed keys and values"),
        ("~", "1:1: found an empty file; allowed keys and values"),
        ("- a\n- b", "1:1: found a list; allowed keys and values"),
        ("just text", "1:1: found a single value; allowed keys and values"),
        ("a: b: c", "1:5: found a syntax error: mapping values are not allowed in this context"),
        ("a: 'open", "1:9: found a syntax error: found unexpected end of stream"),
        ("a: {b: 1", "2:1: found a syntax error: did not find expected ',' or '}'"),
        ("a:\n\tb: 1", "2:1: found a tab; allowed spaces"),
        ("a: 1 # x\ty", "1:9: found a tab; allowed spaces"),
        ("a: \x07", "1:4: found the control character U+0007; allowed text"),
        ("a: x\u2028b: y", "1:5: found the control character U+2028; allowed text"),
        ("a: x\rb: y", "1:5: found the control character U+000D; allowed text"),
    ],
)
def test_the_rest_of_yaml_is_refused(text: str, expected: str) -> None:
    assert complaint(text) == f"f.yaml:{expected}"


def test_billion_laughs_are_not_expanded() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))

    assert complaints(text)[0].startswith("f.yaml:1:5: a0: found the anchor &a0")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "{", "a: ["])
@pytest.mark.parametrize("depth", [21, 900, 20_000])
def test_depth_is_bounded(opening: str, depth: int) -> None:
    assert len(complaints(opening * depth)) == 1


def test_twenty_levels_are_allowed_and_one_more_is_not() -> None:
    assert parse("a: " + "[" * 19 + "]" * 19, "f.yaml").value["a"]
    assert complaint("a: " + "[" * 20 + "]" * 20) == "f.yaml:1:23: found more than 20 levels of nesting; allowed 20"


def test_a_position_is_that_of_the_editor_with_windows_line_ends_and_wide_letters() -> None:
    assert complaint("# \u00e4\u4e2d\U0001f600\r\nrisk: {max_position: \u4e2d}\r\n").startswith("f.yaml:2:22: risk.max_position: ")


# --- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["password", "api_key", "apikey", "client_secret", "TOKEN", "privateKey"])
def test_a_literal_secret_is_refused_and_never_repeated(key: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        load_strategy_text(f"name: x\nstrategy: m:C\ninstrument_id: A.B\nparameters: {{{key}: hunter2}}", "f.yaml")

    assert str(caught.value) == f"f.yaml:4:{16 + len(key)}: parameters.{key}: found a secret; allowed env:NAME or file:/path"


@pytest.mark.parametrize("value", ["env:MY_KEY", "file:/run/secrets/key"])
def test_a_pointer_to_a_secret_is_allowed(value: str) -> None:
    text = f"name: x\nstrategy: m:C\ninstrument_id: A.B\nparameters: {{api_key: '{value}'}}"

    assert load_strategy_text(text, "f.yaml").parameters == {"api_key": value}


# --- files -------------------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_main_config(path)
    return str(caught.value)


def test_a_missing_file_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("risk: {}")

    assert refusal(tmp_path / "mian.yaml") == f"{tmp_path}/mian.yaml: found no such file; did you mean main.yaml?"
    assert refusal(tmp_path / "no" / "x.yaml") == f"{tmp_path}/no/x.yaml: found no such file"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: found a directory; allowed a file"


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert refusal(tmp_path / "pipe") == f"{tmp_path}/pipe: found a device, pipe or socket; allowed a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    path.write_text("risk: {}")
    path.chmod(0)

    assert refusal(path) == f"{path}: cannot be read: Permission denied"


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: " in refusal(tmp_path / ("x" * 300))
    assert "cannot be read: embedded null byte" in refusal(Path("a\0b"))


def test_a_link_in_a_loop_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")

    assert refusal(tmp_path / "a") == f"{tmp_path}/a: cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes("risk: {}".encode(encoding))

    assert refusal(path) == f"{path}: found UTF-16 or UTF-32; allowed UTF-8"


def test_bytes_that_are_not_utf8_are_refused_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"# fine\nrisk: \xff\n")

    assert refusal(path) == f"{path}:2:7: found the byte 0xff, which is not UTF-8; allowed UTF-8"


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfrisk: {max_position: 3}\n")

    assert load_main_config(path).risk.max_position == 3


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))

    assert refusal(path) == f"{path}: found more than 256 KiB; allowed at most 256 KiB"


def _padded(unit: str, start: str = "") -> str:
    return start + unit * ((MAX_BYTES - len(start)) // len(unit))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"k{n}: {n}" for n in range(20_000)),
        _padded("- x\n", "parameters:\n"),
        _padded("a,", "parameters: {x: ["),
        _padded("x ", "name: "),
        _padded("\n"),
        _padded("? "),
        _padded("a: \n"),
        _padded("'' "),
        _padded('"\\U0001F600"\n'),
        _padded("&a "),
        _padded("*a "),
        _padded("!a "),
        _padded("{a: b}, ", "x: ["),
        _padded(" x\n", "a: |\n"),
        _padded("--- 1\n"),
        _padded("#\n"),
    ],
    ids=lambda text: repr(text[-6:]),
)
def test_any_file_within_the_limit_is_read_or_refused_without_endless_work(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text[:MAX_BYTES])
    started = time.process_time()

    with pytest.raises(ConfigFileError):
        load_strategy_file(path)

    # Endless would be minutes (an exponential nest of aliases); a busy machine may need seconds for what takes a fifth of one.
    assert time.process_time() - started < 10.0


# --- properties --------------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False) | names
trees = st.dictionaries(
    names, st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)), min_size=1
)


@given(trees)
def test_what_is_written_as_json_reads_as_it_was(tree: dict[str, Any]) -> None:
    assert parse(json.dumps(tree, ensure_ascii=False), "f.yaml").value == tree


def quoted_where_needed(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    """Quote what reads as a number only in YAML 1.2 (PyYAML writes `1e3` and `0o17` as texts without quotes)."""
    return writer.represent_scalar("tag:yaml.org,2002:str", text, None if isinstance(read_plain(text), str) else '"')


@given(trees)
@example({"a": "yes", "b": "0755", "c": "12:30", "d": "1e3", "e": ".nan", "f": "<<", "g": "~", "h": ""})
@example({"no": {"on": 1}})
def test_what_pyyaml_writes_reads_as_it_was(tree: dict[str, Any]) -> None:
    class Writer(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Writer.add_representer(str, quoted_where_needed)
    text = yaml.dump(tree, Dumper=Writer, allow_unicode=True, sort_keys=False)

    assert parse(text, "f.yaml").value == tree


@given(st.text(st.sampled_from("ab01 :-?[]{},&*!|>'\"%@`#~\n.e_x<=\u00e4"), max_size=60))
@settings(max_examples=400)
@example("? ")
@example("!<tag:x> a")
@example("a: !")
@example("{? a}")
@example("? |\n  a\n: b")
def test_any_text_is_read_or_refused(text: str) -> None:
    for model in (MainConfig, StrategyFile):
        with suppress(ConfigFileError):
            validate(parse(text, "f.yaml"), model)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "f.yaml"
    path.write_bytes(content)
    with suppress(ConfigFileError):
        load(path, MainConfig)
