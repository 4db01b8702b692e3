"""Deployments: checked in full, compared key by key, remembered as they were."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.errors import ConfigError, IntegrityError
from framework.operations import deployments, offline
from framework.operations.deployments import CHANGED, NEW, UNCHANGED, Change, Plan, read_deployment
from framework.strict_yaml import ConfigFileError
from framework.trading import journal as journals
from framework.trading.journal import Journal

STRATEGY = Path(__file__).resolve().parents[2] / "config" / "strategies" / "ml_futures.yaml"
CODE = """
from framework.strategy import Strategy
class Mine(Strategy):
    class Parameters(Strategy.Parameters):
        levels: int = 3
"""
FILE = "name: mine\nstrategy: {module}:Mine\ninstrument_id: TIDE.SIM\nparameters:\n  levels: 5\n"


@pytest.fixture
def text() -> str:
    return STRATEGY.read_text()


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, code: str) -> None:
        sys.modules.pop(name, None)
        (tmp_path / f"{name}.py").write_text(code)

    return write


def test_a_file_is_checked_down_to_the_parameters_of_its_strategy(text: str) -> None:
    deployment = read_deployment(text, "f.yaml")

    assert deployment.file.name == "ml_futures"
    assert deployment.parameters.levels == 3  # type: ignore[attr-defined]


def test_every_wrong_parameter_is_named_with_its_line(text: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        read_deployment(text.replace("levels: 3", "levels: 30").replace("half_life_s", "halflife_s"), "f.yaml")

    assert [str(problem).partition("; allowed")[0] for problem in caught.value.problems] == [
        "f.yaml:41:11: parameters.levels: found 30",
        "f.yaml:42:3: parameters.halflife_s: found an unknown key",
    ]


def test_a_strategy_that_does_not_exist_is_refused_where_it_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_deployment(text.replace(":MLFuturesStrategy", ":MLFutureStrategy"), "f.yaml")

    assert str(caught.value) == (
        "f.yaml:7:11: strategy strategies.ml_futures:MLFutureStrategy: module strategies.ml_futures has no class MLFutureStrategy; "
        "did you mean MLFuturesStrategy?"
    )


def test_the_digest_covers_settings_and_code_but_not_comments(text: str, write_module: Callable[[str, str], None]) -> None:
    digest = read_deployment(text, "a.yaml").digest

    assert read_deployment("# another comment\n" + text, "b.yaml").digest == digest
    assert read_deployment(text.replace("levels: 3", "levels: 4"), "a.yaml").digest != digest
    write_module("mine_one", CODE)
    first = read_deployment(FILE.format(module="mine_one"), "f.yaml")
    write_module("mine_one", CODE + "# changed\n")
    second = read_deployment(FILE.format(module="mine_one"), "f.yaml")
    assert first.file == second.file
    assert first.digest != second.digest


def test_the_code_of_a_base_class_counts(write_module: Callable[[str, str], None]) -> None:
    write_module("mine_base", CODE)
    write_module("mine_child", "import mine_base\nclass Mine(mine_base.Mine):\n    pass\n")
    first = read_deployment(FILE.format(module="mine_child"), "f.yaml").code_digest
    write_module("mine_base", CODE + "# changed\n")
    write_module("mine_child", "import mine_base\nclass Mine(mine_base.Mine):\n    pass\n")

    assert read_deployment(FILE.format(module="mine_child"), "f.yaml").code_digest != first


@pytest.mark.parametrize("code", ["import nonexistent_thing", "def (", "raise ValueError('at import')", "1 / 0", "{}['x']"])
def test_a_module_that_cannot_be_imported_is_refused_where_it_is_named(write_module: Callable[[str, str], None], code: str) -> None:
    write_module("mine_broken", code)

    with pytest.raises(ConfigError, match=r"^f\.yaml:2:11: strategy .*mine_broken.* cannot be imported: "):
        read_deployment(FILE.format(module="mine_broken"), "f.yaml")


# --- plans -----------------------------------------------------------------------------------------------------------------


def stored(text: str) -> journals.Deployment:
    journal = Journal(":memory:")
    deployments.remember(journal, read_deployment(text, "f.yaml"), 42)
    (found,) = journal.deployments().values()
    journal.close()
    return found


def test_what_is_not_deployed_is_new(text: str) -> None:
    assert deployments.plan(read_deployment(text, "f.yaml"), None) == Plan(name="ml_futures", kind=NEW)


def test_deploying_the_same_again_changes_nothing(text: str) -> None:
    again = "# a comment more\n" + text

    assert deployments.plan(read_deployment(again, "g.yaml"), stored(text)) == Plan(name="ml_futures", kind=UNCHANGED)


def test_a_plan_names_each_key_that_differs(text: str) -> None:
    after = (
        text.replace("levels: 3", "levels: 4").replace("instrument_id: TIDE.SIM", "instrument_id: WAVE.SIM").replace("  on_sell: short", "")
    )
    after += "ml_service:\n  timeout: 0.5\n"

    assert deployments.plan(read_deployment(after, "f.yaml"), stored(text)) == Plan(
        name="ml_futures",
        kind=CHANGED,
        changes=(
            Change(key="instrument_id", before='"TIDE.SIM"', after='"WAVE.SIM"'),
            Change(key="ml_service.timeout", before=None, after="0.5"),
            Change(key="parameters.levels", before="3", after="4"),
            Change(key="parameters.on_sell", before='"short"', after=None),
        ),
    )


def test_a_change_reads_as_a_sentence() -> None:
    assert str(Change(key="a.b", before=None, after="2")) == "a.b: not set -> 2"


def test_other_code_is_a_change(write_module: Callable[[str, str], None]) -> None:
    write_module("mine_two", CODE)
    before = stored(FILE.format(module="mine_two"))
    write_module("mine_two", CODE + "# changed\n")
    after = read_deployment(FILE.format(module="mine_two"), "f.yaml")

    assert deployments.plan(after, before) == Plan(name="mine", kind=CHANGED, is_code_changed=True)
    assert deployments.is_code_changed(before, after)


# --- the journal -----------------------------------------------------------------------------------------------------------


def test_what_was_deployed_is_recalled_as_it_was(text: str) -> None:
    assert deployments.recall(stored(text)).digest == read_deployment(text, "f.yaml").digest


def test_a_deployment_whose_strategy_is_gone_says_so(text: str, write_module: Callable[[str, str], None]) -> None:
    write_module("mine_gone", CODE)
    found = stored(FILE.format(module="mine_gone"))
    write_module("mine_gone", "")

    with pytest.raises(ConfigError, match=r"^deployed f\.yaml:2:11: strategy mine_gone:Mine: module mine_gone has no class Mine"):
        deployments.recall(found)


@pytest.mark.parametrize("body", ["", "{}", "[1]", '{"path": 1}'])
def test_a_damaged_record_is_an_integrity_error(body: str) -> None:
    with pytest.raises(IntegrityError, match="the deployment x in the journal cannot be read"):
        deployments.recall(journals.Deployment("x", body, "", 0))


def test_offline_a_deployment_that_no_longer_works_is_listed_with_its_reason(
    tmp_path: Path, write_module: Callable[[str, str], None]
) -> None:
    write_module("mine_three", CODE)
    offline.deploy(tmp_path / "s", read_deployment(FILE.format(module="mine_three"), "f.yaml"), 1, is_dry_run=False)
    write_module("mine_three", "")

    (found,) = offline.strategies(tmp_path / "s")

    assert (found.name, found.state) == ("mine", "STOPPED")
    assert "module mine_three has no class Mine" in found.reason
    offline.undeploy(tmp_path / "s", "mine")
    assert offline.strategies(tmp_path / "s") == ()


def test_without_a_journal_nothing_is_deployed_and_nothing_is_created(tmp_path: Path) -> None:
    assert offline.strategies(tmp_path / "s") == ()
    assert not (tmp_path / "s").exists()
