from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import UsageError
from koopscope.fit_tree import fitted_blocks
from koopscope.simulation import linear_run
from koopscope.variables import VARIABLES


def test_fit__a_tree_with_a_child_a_layer_and_size():
    fit = koopscope.fit(linear_run(), "node,fc1=quasi-node:3", t2=800, lag=10)
    assert fit.attrs["blocks"] == ["fc1/size-3", "fc1/size-1", "fc2"]
    assert fit["fc1/size-3"].sizes["group"] == 4
    assert fit["fc2"]["operator"].dims == ("group", "state_next", "state")


def test_fit__every_variable_is_registered_with_its_meaning():
    fit = koopscope.fit(linear_run(), "network", t2=800, lag=10)
    for block in fitted_blocks(fit):
        for name in block:
            assert block[name].attrs["long_name"] == VARIABLES[name].meaning


def test_fit__from_statistics_is_the_same_fit():
    run = linear_run()
    statistics = koopscope.collect(run, "node", t2=800, lag=10)
    direct = koopscope.fit(run, "node", t2=800, lag=10)
    assert koopscope.fit(statistics)["fc1"].to_dataset().identical(direct["fc1"].to_dataset())
    assert koopscope.fit(statistics, rank=1)["fc1"]["rank"].max() == 1


def test_fit__arguments_must_not_contradict_the_statistics():
    statistics = koopscope.collect(linear_run(), "node", t2=800, lag=10)
    with pytest.raises(UsageError, match="contradicts"):
        koopscope.fit(statistics, lag=20)


@pytest.mark.parametrize(
    "settings", [{"rtol": 1.0}, {"rtol": -1e-3}, {"rank": 0}, {"rank": 2, "method": "paper"}]
)
def test_fit__truncation_that_cannot_be_used(settings):
    with pytest.raises(UsageError):
        koopscope.fit(linear_run(), "node", **settings)


def test_fit__groups_do_not_depend_on_the_order_of_the_partition():
    """The operators of a node are the same whatever the other layers are cut into."""
    run = linear_run()
    alone = koopscope.fit(run, "node", t2=800, lag=10)["fc2"].to_dataset()
    mixed = koopscope.fit(run, "node,fc1=weight", t2=800, lag=10)["fc2"].to_dataset()
    assert alone.identical(mixed)


def test_fit__constant_recording_has_rank_zero():
    run = linear_run()
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        run[name][:] = run[name][0]
    for partition in ("node", "network"):
        fit = koopscope.fit(run, partition, t2=800, lag=10)
        assert all((block["rank"] == 0).all() for block in fitted_blocks(fit))
        forecast = koopscope.predict(fit, 100)
        assert np.array_equal(forecast["fc1.weight"].values[0], run["fc1.weight"].values[0])
        assert koopscope.spectrum(fit).sizes["eigenvalue"] == 0
