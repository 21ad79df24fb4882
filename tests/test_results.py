from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import koopscope
from koopscope.errors import OutputExistsError, ResultError
from koopscope.simulation import linear_run


@pytest.fixture(scope="module")
def fitted():
    return koopscope.fit(linear_run(), "node,fc1=quasi-node:3", t2=800, lag=10)


RESULTS = {
    "fit": lambda fit: fit,
    "fit with delays": lambda _: koopscope.fit(linear_run(), "network", t2=800, lag=10, delays=3),
    "fit of the paper": lambda _: koopscope.fit(linear_run(), "layer", method="paper", t2=30),
    "verification": lambda fit: koopscope.verify(fit, linear_run(), [10, 200]),
    "forecast": lambda fit: koopscope.predict(fit, [10, 200]),
    "spectrum": lambda fit: koopscope.spectrum(fit),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_save__load_gives_the_same_result(fitted, kind, tmp_path):
    result = RESULTS[kind](fitted)
    koopscope.save(result, tmp_path / "result.zarr")
    loaded = koopscope.load(tmp_path / "result.zarr")
    assert type(loaded) is type(result)
    assert loaded.identical(result)
    assert [path.name for path in tmp_path.iterdir()] == ["result.zarr"]


@settings(deadline=None, max_examples=10)
@given(
    partition=st.sampled_from(["network", "layer", "node", "quasi-node:2", "weight"]),
    seed=st.integers(0, 2**20),
    lead=st.integers(0, 10_000),
)
def test_load__a_reloaded_fit_predicts_bit_for_bit_the_same(partition, seed, lead, tmp_path_factory):
    fit = koopscope.fit(linear_run(seed=seed), partition, t2=800, lag=10)
    place = tmp_path_factory.mktemp("results") / "fit.zarr"
    koopscope.save(fit, place)
    assert koopscope.predict(koopscope.load(place), lead).identical(koopscope.predict(fit, lead))


def test_save__refuses_to_replace(tmp_path):
    table = koopscope.spectrum(koopscope.fit(linear_run(), "layer", t2=800))
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputExistsError):
        koopscope.save(table, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_save__only_results(tmp_path):
    with pytest.raises(ResultError):
        koopscope.save(xr.Dataset({"x": 1}), tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def test_save__nothing_is_pickled(tmp_path):
    fit = koopscope.fit(linear_run(), "node", t2=800, lag=10)
    koopscope.save(fit, tmp_path / "fit.zarr")
    for path in (tmp_path / "fit.zarr").rglob("zarr.json"):
        assert "pickle" not in path.read_text()
        assert json.loads(path.read_text()).get("data_type") != "object"


DAMAGE = ["missing", "empty", "array gone", "block gone", "chunk cut", "json cut", "other store"]
DAMAGE += [f"no attribute {name}" for name in ("lag", "tensors", "blocks", "method", "t2")]
DAMAGE += [f"no chunk of {name}" for name in ("operator", "member_index", "origin", "eigenvalue", "residual")]


@pytest.mark.parametrize("damage", DAMAGE)
def test_load__damage_is_a_result_error(damage, tmp_path):
    place = tmp_path / "fit.zarr"
    if damage != "missing":
        koopscope.save(koopscope.fit(linear_run(), "node", t2=800, lag=10), place)
    if damage == "empty":
        (place / "zarr.json").unlink()
    if damage == "array gone":
        shutil.rmtree(place / "fc1" / "operator")
    if damage == "block gone":
        shutil.rmtree(place / "fc1")
    if damage.startswith("no chunk of"):
        next((place / "fc1" / damage.split()[-1]).glob("c.*")).unlink()
    if damage.startswith("no attribute"):
        metadata = json.loads((place / "zarr.json").read_text())
        del metadata["attributes"][damage.split()[-1]]
        (place / "zarr.json").write_text(json.dumps(metadata))
    if damage == "chunk cut":
        chunk = next((place / "fc1" / "operator").glob("c.*"))
        chunk.write_bytes(chunk.read_bytes()[:7])
    if damage == "json cut":
        (place / "fc1" / "zarr.json").write_text('{"zarr_format": 3,')
    if damage == "other store":
        text = (place / "zarr.json").read_text()
        (place / "zarr.json").write_text(text.replace("koopscope_result", "something_else"))
    with pytest.raises(ResultError):
        koopscope.load(place)


def test_save__keeps_complex_nan_and_text(tmp_path):
    fit = koopscope.fit(linear_run(), "network", t2=800, lag=10)
    koopscope.save(fit, tmp_path / "fit.zarr")
    loaded = koopscope.load(tmp_path / "fit.zarr")["network"]["eigenvalue"].values
    assert np.isnan(loaded).any()
    assert np.iscomplexobj(loaded)
