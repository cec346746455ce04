"""Versions: what is recorded of a model, under which number, and how it is found again."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from unit.model.models import (
    NUMBERS,
    coded,
    flights,
    lightgbm_classifier,
    lightgbm_on_categories,
    own_class_on_polars,
    served,
)
from upturn.core.errors import Invalid, NotFound
from upturn.core.lineage import upstream
from upturn.core.records import Artifact, Edge, Version
from upturn.core.time import instant
from upturn.model.adapters import load_predictor
from upturn.model.environment import present_environment
from upturn.model.profile import count_into
from upturn.model.registry import (
    get_version,
    list_models,
    list_versions,
    register_version,
    set_alias,
)
from upturn.model.tables import to_arrow
from upturn.stores import values
from upturn.stores.workspace import Workspace, open_workspace

NOW = instant("2013-04-01")


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    workspace = open_workspace()
    yield workspace
    workspace.close()


def register(
    workspace: Workspace, name: str = "delays", *, trees: int = 5, **given: Any
) -> Version:
    frame = flights()
    model = lightgbm_classifier().set_params(n_estimators=trees).fit(frame[NUMBERS], frame["late"])
    options = {"data": frame, "target": "late", "now": NOW} | given
    return register_version(workspace, name, model, **options)


def test_a_version_has_all_that_serving_and_judging_need(workspace: Workspace) -> None:
    model, data, expected = lightgbm_on_categories()
    version = register_version(
        workspace,
        "delays",
        model,
        data=data,
        target="late",
        run="k3f9x2",
        task="run/k3f9x2/register/0",
        params={"depth": 3},
        metrics={"auc": 0.7},
        code="abc",
        now=NOW,
    )
    assert version.name == "delays:1"
    assert workspace.meta.get(Version, "delays", 1) == version
    assert (version.run, version.params, version.metrics, version.code) == (
        "k3f9x2",
        {"depth": 3},
        {"auc": 0.7},
        "abc",
    )
    assert version.environment.python == ".".join(map(str, sys.version_info[:3]))
    assert {"lightgbm", "pandas"} <= version.environment.distributions.keys()
    names = [column.name for column in version.profile.columns]
    assert names == [*version.signature.names, "prediction"]

    predictor = load_predictor(workspace, version)
    found = predictor.predict(served(data, version.signature.names))
    np.testing.assert_array_equal(found.scores, expected())

    prediction = version.profile.column("prediction")
    assert prediction is not None
    assert prediction.counts == count_into(prediction, pa.array(expected())).counts


def test_its_lineage_leads_to_model_data_and_task(workspace: Workspace) -> None:
    version = register(workspace, task="run/k3f9x2/register/0")
    found = upstream("version/delays:1", lambda path: workspace.meta.select(Edge, target=path))
    roles = {node.edge.role: node.path for node in found if node.edge}
    assert roles == {
        "model": f"artifact/{version.artifact}",
        "data": f"artifact/{version.data}",
        "registered": "run/k3f9x2/register/0",
    }
    for digest in (version.artifact, version.data):
        assert workspace.meta.find(Artifact, digest) is not None
        assert workspace.blobs.has(str(digest))


def test_what_is_stored_already_is_not_stored_again(workspace: Workspace) -> None:
    model, data, _ = own_class_on_polars()
    before = workspace.blobs.size_bytes()
    version = register_version(
        workspace,
        "own",
        model,
        data=data,
        target="late",
        model_digest="a" * 64,
        data_digest="b" * 64,
        now=NOW,
    )
    assert (version.artifact, version.data) == ("a" * 64, "b" * 64)
    assert workspace.blobs.size_bytes() == before


def test_registering_the_same_again_gives_the_same_version(workspace: Workspace) -> None:
    first = register(workspace, task="run/a/register/0")
    later = instant("2013-05-01")
    assert register(workspace, task="run/b/register/0", run="b", now=later) == first
    assert len(list_versions(workspace, "delays")) == 1
    sources = {edge.source for edge in workspace.meta.select(Edge, target="version/delays:1")}
    assert {"run/a/register/0", "run/b/register/0"} <= sources

    assert register(workspace, trees=6).number == 2
    assert register(workspace, trees=6, params={"start": "2013-04-01"}).number == 3
    assert register(workspace, trees=5).number == 4  # going back is a change, too
    assert register(workspace, "others", trees=5).name == "others:1"


def test_a_metric_that_is_not_a_number_changes_nothing(workspace: Workspace) -> None:
    numbers = {
        register(workspace, metrics={"auc": float("nan"), "loss": float("inf")}).number
        for _ in range(2)
    }
    assert numbers == {1}


def test_every_one_of_many_at_once_gets_a_number_of_its_own(workspace: Workspace) -> None:
    def one(i: int) -> int:
        model, data, _ = own_class_on_polars()
        return register_version(
            workspace, "own", model, data=data, target="late", params={"i": i}, now=NOW
        ).number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(8))) == list(range(1, 9))


def test_without_data_nothing_can_be_learned(workspace: Workspace) -> None:
    with pytest.raises(Invalid) as caught:
        register(workspace, data=None)
    assert "data=" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "fitting"),
    [("Delays", "'delays'"), ("a b", "'a-b'"), ("9x", "'x'"), ("", "first."), ("x" * 65, "'xxx")],
)
def test_a_name_that_can_be_none_is_refused(workspace: Workspace, name: str, fitting: str) -> None:
    with pytest.raises(Invalid, match="can't be the name of a model") as caught:
        register(workspace, name)
    assert fitting in caught.value.hint


def test_versions_are_found_by_number_alias_or_name(workspace: Workspace) -> None:
    first, second = register(workspace), register(workspace, trees=6)
    assert get_version(workspace, "delays") == second
    assert get_version(workspace, "delays:1") == first
    set_alias(workspace, "delays", "champion", 1, why="best", now=NOW)
    assert get_version(workspace, "delays") == first
    assert get_version(workspace, "delays@champion") == first
    moved = set_alias(workspace, "delays", "champion", 2, why="better", now=NOW)
    assert set_alias(workspace, "delays", "champion", 2, why="again", now=NOW) == moved
    assert get_version(workspace, "delays") == second
    assert list_versions(workspace, "delays") == [first, second]
    register(workspace, "arrivals")
    assert list_models(workspace) == ["arrivals", "delays"]


@pytest.mark.parametrize(
    ("ref", "said", "hint"),
    [
        ("delay", "No model 'delay'.", "Did you mean 'delays'?"),
        ("delays:9", "Model 'delays' has no version 9.", "There is: '1', '2'."),
        ("delays:0", "Model 'delays' has no version 0.", "There is: '1', '2'."),
        (f"delays:{10**30}", "has no version 1000", "There is: '1', '2'."),
        ("delays@best", "Model 'delays' has no alias 'best'.", "There is: 'challenger'."),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    workspace: Workspace, ref: str, said: str, hint: str
) -> None:
    register(workspace)
    register(workspace, trees=6)
    set_alias(workspace, "delays", "challenger", 1, why="try", now=NOW)
    with pytest.raises(NotFound, match=said) as caught:
        get_version(workspace, ref)
    assert caught.value.hint == hint


@pytest.mark.parametrize("ref", ["", ":1", "delays:", "delays:x", "delays@", "a:1@b", "delays:-1"])
def test_what_is_no_reference_is_refused(workspace: Workspace, ref: str) -> None:
    with pytest.raises(Invalid, match="is not a reference to a version") as caught:
        get_version(workspace, ref)
    assert "delays:7" in caught.value.hint


def test_an_alias_points_to_a_version_that_exists(workspace: Workspace) -> None:
    register(workspace)
    with pytest.raises(NotFound, match="no version 2"):
        set_alias(workspace, "delays", "champion", 2, why="", now=NOW)
    with pytest.raises(Invalid, match="name of an alias"):
        set_alias(workspace, "delays", "Best One", 1, why="", now=NOW)


def test_the_profile_of_predictions_is_of_a_sample(workspace: Workspace) -> None:
    frame = coded(flights())
    many = frame.loc[np.tile(np.arange(len(frame)), 100)].reset_index(drop=True)
    version = register(workspace, data=many)
    prediction = version.profile.column("prediction")
    assert prediction is not None
    assert prediction.count == 15_000  # every second of 30,000 rows
    assert version.profile.rows == 30_000


def test_labels_are_profiled_as_they_are_answered(workspace: Workspace) -> None:
    frame = flights()

    def model(rows: Any) -> Any:
        return rows["delay"].to_numpy() > 15

    version = register_version(workspace, "labels", model, data=frame, target="late", now=NOW)
    prediction = version.profile.column("prediction")
    assert prediction is not None
    assert prediction.values == ("false", "true")


def test_the_environment_names_what_was_imported() -> None:
    found = present_environment()
    assert found.distributions["scikit-learn"]
    assert "pandas" in found.distributions
    assert "upturn" not in found.distributions or found.distributions["upturn"]


def test_a_stored_model_predicts_what_it_did(workspace: Workspace) -> None:
    version = register(workspace)
    again = values.load(workspace.blobs, version.artifact)
    frame = flights()
    found = load_predictor(workspace, version).predict(to_arrow(frame))
    np.testing.assert_array_equal(found.scores, again.predict_proba(frame[NUMBERS])[:, 1])
