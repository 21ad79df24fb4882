"""Groups of weights read off the recording."""

import numpy as np
import pytest

import koopscope
from koopscope.errors import PartitionError
from koopscope.partition import Partition
from koopscope.simulation import linear_run
from koopscope.statistics.correlated import correlated_labels
from koopscope.statistics.windows import choose_window
from koopscope.trajectory import from_arrays
from koopscope.weight_vector import WeightVector

STEPS = np.arange(500)


@pytest.fixture(scope="module")
def run():
    """Record two tensors whose weights follow one of three unrelated movements; one weight is still."""
    random = np.random.default_rng(2)
    movements = np.cumsum(random.normal(size=(STEPS.size, 3)), axis=0)
    of_weight = random.integers(0, 3, 40)
    factor = random.uniform(0.5, 2.0, 40) * random.choice([-1.0, 1.0], 40)
    weights = movements[:, of_weight] * factor + random.normal(size=40) * 10
    weights[:, -1] = 3.0
    tensors = {"a.weight": weights[:, :30].reshape(-1, 5, 6), "b.weight": weights[:, 30:].reshape(-1, 2, 5)}
    return from_arrays(STEPS, tensors), of_weight


def labels_of(partition, weights):
    flat = np.empty(weights.size, int)
    for number, members in enumerate(group for block in partition.blocks(weights) for group in block.members):
        flat[members] = number
    return flat


def test_correlated_labels__finds_what_moves_together(run):
    trajectory, of_weight = run
    weights = WeightVector.of(trajectory)
    window = choose_window(STEPS, t2=400)
    found = labels_of(correlated_labels(trajectory, weights, window, 3), weights)[:-1]
    pairs = {(known, number) for known, number in zip(of_weight[:-1], found, strict=True)}
    assert len(pairs) == 3  # one group for each movement, whatever the sign, scale, place and tensor


def test_correlated_labels__looks_at_nothing_after_t2(run):
    trajectory, _ = run
    weights = WeightVector.of(trajectory)
    window = choose_window(STEPS, t2=400)
    spoilt = trajectory.copy(deep=True)
    for name in ("a.weight", "b.weight"):
        spoilt[name][401:] = np.random.default_rng(4).normal(size=spoilt[name][401:].shape)
    one, other = (
        labels_of(correlated_labels(given, weights, window, 4), weights) for given in (trajectory, spoilt)
    )
    np.testing.assert_array_equal(one, other)


def test_fit__correlated_groups_are_kept_with_the_fit(run, tmp_path):
    trajectory, _ = run
    fit = koopscope.fit(trajectory, "correlated:3", t2=400, lag=4)
    assert fit.attrs["partition"] == "correlated:3"
    members = np.concatenate([fit[path]["member_index"].values.ravel() for path in fit.attrs["blocks"]])
    assert sorted(members.tolist()) == list(range(40))
    koopscope.save(fit, tmp_path / "fit.zarr")
    forecasts = [koopscope.predict(given, 50) for given in (fit, koopscope.load(tmp_path / "fit.zarr"))]
    np.testing.assert_array_equal(forecasts[0]["a.weight"], forecasts[1]["a.weight"])


def test_partition__correlated_is_spelled_and_refused_where_it_cannot_be(run):
    assert Partition.parse("correlated:8") == Partition.correlated(8)
    assert str(Partition.correlated(8)) == "correlated:8"
    weights = WeightVector.of(linear_run(n_rows=3))
    with pytest.raises(PartitionError, match="read off a recording"):
        Partition.correlated(2).blocks(weights)
    with pytest.raises(PartitionError, match="correlated crosses layers"):
        Partition.parse("node,fc1=correlated:2")
    with pytest.raises(PartitionError, match="not a scheme"):
        Partition.parse("correlated")
    with pytest.raises(PartitionError, match="at least 1 group"):
        Partition.correlated(0)
    with pytest.raises(PartitionError, match="more groups than the 40 weights"):
        koopscope.fit(run[0], "correlated:41", t2=400)
