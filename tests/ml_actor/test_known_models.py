from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.evaluation import log_losses
from ml_actor.horizons import EARLIER_ROWS, HorizonModels, fit_horizons
from ml_actor.inputs import NAMES
from ml_actor.known_models import SHIPPED, find_members, model_names
from ml_actor.labels import label_rows
from ml_actor.preparation import Recording

MarketMaker = Callable[..., Rows]

OWN_PACKAGE = """
import numpy as np
from sklearn.linear_model import LogisticRegression


def slim(*, seed):
    return LogisticRegression(C=1e-3, random_state=seed)


class Cautious:
    '''Knows no flat.'''

    def __init__(self, *, seed):
        self.classes_ = np.array([-1, 1])

    def fit(self, X, y, sample_weight):
        assert not np.isnan(X).any() and set(y) <= {-1, 0, 1} and len(sample_weight) == len(y)

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def useless(*, seed):
    return object()
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that adds models: a module and the metadata that an installer writes."""
    (tmp_path / "slim_models.py").write_text(OWN_PACKAGE)
    metadata = tmp_path / "slim_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slim-models\nVersion: 1.0\n")
    lines = ["[tidebook.models]", "slim = slim_models:slim", "cautious = slim_models:Cautious", "useless = slim_models:useless"]
    (metadata / "entry_points.txt").write_text("\n".join([*lines, "gone = slim_models:gone"]))
    monkeypatch.syspath_prepend(str(tmp_path))


def recording(rows: Rows) -> Recording:
    return Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)


def fit(rows: Rows, model: str) -> HorizonModels | str:
    return fit_horizons([recording(rows)], horizons=[10], label="sign", seed=7, report=lambda *_: None, model=model)


def loss(model: HorizonModels | str, rows: Rows) -> float:
    assert isinstance(model, HorizonModels), model
    labels = label_rows(rows, horizon_rows=10, min_history=EARLIER_ROWS + 1)
    said = model.predict_rows(recording(rows))[10]
    return float(log_losses(said[labels.is_valid], labels.classes[labels.is_valid]).mean())


def test_a_classifier_of_an_installed_package_is_found_by_its_name_and_fitted(own_package: None, make_market: MarketMaker) -> None:
    train, test = make_market(4_000, seed=1), make_market(2_000, seed=2)

    assert model_names() == (*SHIPPED, "cautious", "gone", "slim", "useless")
    assert loss(fit(train, "slim"), test) < loss(fit(train, "majority"), test) - 0.01


def test_a_classifier_that_does_not_know_a_class_still_gives_probabilities(own_package: None, make_market: MarketMaker) -> None:
    rows = make_market(3_000, seed=1)
    models = fit(rows, "cautious")

    assert isinstance(models, HorizonModels), models
    assert np.isfinite(models.predict_rows(recording(rows))[10][EARLIER_ROWS + 5]).all()


def test_a_classifier_may_be_named_by_module_and_callable(own_package: None) -> None:
    members = find_members("slim_models:slim")

    assert not isinstance(members, str)
    assert members[0].name == "slim_models:slim"


def test_what_is_no_classifier_or_is_not_there_is_refused_by_name(own_package: None, make_market: MarketMaker) -> None:
    rows = make_market(3_000, seed=1)

    assert fit(rows, "useless") == "useless: object has no fit and no predict_proba"
    for name, part in (("gone", "slim_models:gone cannot be loaded"), ("oracle", "allowed majority, persistence, imbalance, linear")):
        refusal = fit(rows, name)
        assert isinstance(refusal, str)
        assert part in refusal


@pytest.mark.parametrize("name", ["persistence", "imbalance", "linear"])
def test_shipped_models_find_the_signal(name: str, make_market: MarketMaker) -> None:
    train, test = make_market(4_000, seed=1), make_market(2_000, seed=2)
    better = loss(fit(train, name), test) - loss(fit(train, "majority"), test)

    assert better < (0.01 if name == "persistence" else -0.01)


def test_every_name_of_an_input_is_there_once() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_the_members_of_the_ensemble_have_names_of_their_own() -> None:
    members: Any = find_members("ensemble")

    assert [member.name for member in members] == ["linear", "trees", "mlp", "mlp_steady"]
