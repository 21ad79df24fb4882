from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import LossError, NonFiniteError, ResultError, UsageError
from koopscope.simulation import linear_run

NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")


@pytest.fixture(scope="module")
def run():
    return linear_run(drift=0.0)


def limit(run):
    """Where a run without drift ends; after 1000 steps its modes have decayed to .99**1000 = 4e-5."""
    return {name: run[name].to_numpy()[-1] for name in NAMES}


@pytest.mark.parametrize(("partition", "delays"), [("node", 1), ("layer", 3), ("weight", 4)])
def test_end_point__is_the_fixed_point_of_a_contraction(run, partition, delays):
    if partition == "weight":
        run, delays = linear_run("weight", drift=0.0), 1
    fit = koopscope.fit(run, partition, t2=500, lag=10, delays=delays, rtol=1e-8)
    found = koopscope.end_point(fit)
    for name, end in limit(run).items():
        np.testing.assert_allclose(found[name], end, atol=2e-4)


def test_end_point__of_paper_is_the_projection_on_the_mode_at_one():
    """A weight beside a constant one: (w, 1) -> (.9 w + .2, 1) ends at 2, by the source's operator."""
    steps = np.arange(60)
    values = np.stack([2 + 3 * 0.9**steps, np.ones(60)], axis=1)[:, None]
    wide = koopscope.trajectory.from_arrays(steps, {"a.weight": values})
    fit = koopscope.fit(wide, "layer", method="paper", t2=40)
    np.testing.assert_allclose(koopscope.end_point(fit)["a.weight"], [[2.0, 1.0]], atol=1e-9)


def test_end_point__a_drift_is_held_at_t2():
    steps = np.arange(100)
    values = np.stack([0.01 * steps, 0.5 * 0.9**steps], axis=1)[:, None]
    wide = koopscope.trajectory.from_arrays(steps, {"a.weight": values})
    found = koopscope.end_point(koopscope.fit(wide, "layer", t2=80, lag=1))
    np.testing.assert_allclose(found["a.weight"], [[0.8, 0.0]], atol=1e-6)


def test_prune__removes_the_smallest_of_each_ranking(run):
    fit = koopscope.fit(run, "node", t2=300, lag=10)
    masks = koopscope.prune(fit, 0.5)
    end = koopscope.end_point(fit)
    kernels = ("fc1.weight", "fc2.weight")
    scores = {
        "end_point": np.concatenate([np.abs(end[name].to_numpy()).ravel() for name in kernels]),
        "magnitude": np.concatenate([np.abs(run[name].sel(step=300).to_numpy()).ravel() for name in kernels]),
    }
    for criterion, score in scores.items():
        kept = np.concatenate([masks[name].sel(criterion=criterion).to_numpy().ravel() for name in kernels])
        assert np.count_nonzero(~kept) == masks.attrs["removed"] == 10
        assert score[kept].min() > score[~kept].max()
    assert masks["fc1.bias"].all()
    assert masks["fc2.weight"].dims == ("criterion", "fc2.weight.out", "fc2.weight.in")


def test_prune__layer_by_layer_and_with_biases(run):
    fit = koopscope.fit(run, "node", t2=300)
    masks = koopscope.prune(fit, 0.5, scope="layer")
    assert int((~masks["fc1.weight"][0]).sum()) == 6
    assert int((~masks["fc2.weight"][0]).sum()) == 4
    everything = koopscope.prune(fit, 0.5, biases=True)
    assert everything.attrs["removed"] == 13
    assert koopscope.prune(fit, 0.0).attrs["removed"] == 0


def test_prune__a_weight_that_shrinks_is_removed_by_its_end_point_only():
    steps = np.arange(200)
    values = np.stack([5 * 0.98**steps, 0.3 + 0.1 * 0.9**steps], axis=1)[:, None]
    wide = koopscope.trajectory.from_arrays(steps, {"a.weight": values})
    masks = koopscope.prune(koopscope.fit(wide, "weight", t2=100), 0.5)
    assert masks["a.weight"].sel(criterion="end_point").values.tolist() == [[False, True]]
    assert masks["a.weight"].sel(criterion="magnitude").values.tolist() == [[True, False]]
    assert masks.attrs["common"] == 0


def test_prune__loss_of_both(run):
    fit = koopscope.fit(run, "node", t2=300)
    end = limit(run)

    def loss(params):
        return sum(((params[name] - end[name]) ** 2).sum() for name in NAMES) / 26

    attrs = koopscope.prune(fit, 0.4, loss=loss, trajectory=run).attrs
    assert attrs["loss_at_t2"] == pytest.approx(float(run["loss"].sel(step=300)))
    assert min(attrs["loss_pruned"].values()) > attrs["loss_at_t2"]
    with pytest.raises(LossError, match="not the loss of this run"):
        koopscope.prune(fit, 0.4, loss=lambda params: 1.0, trajectory=run)


def test_prune__what_it_refuses(run):
    fit = koopscope.fit(run, "node", t2=300)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="fraction"):
            koopscope.prune(fit, fraction)
    with pytest.raises(UsageError, match="scope"):
        koopscope.prune(fit, 0.1, scope="node")
    with pytest.raises(ResultError):
        koopscope.prune(run, 0.1)
    broken = fit.copy(deep=True)
    broken["fc1"]["operator"][0] = np.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        koopscope.prune(broken, 0.1)
