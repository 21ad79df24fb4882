"""Predicted costs: their counts against the partition itself, their growth against the analysis."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import koopscope
from koopscope.costs import PARTITIONS, Work, group_sizes
from koopscope.errors import UsageError
from koopscope.rates import READ_RATE, Rates
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays
from koopscope.trajectory.zarr_array import GrowingArray
from koopscope.weight_vector import WeightVector


def recording(rows=200, **shapes):
    return from_arrays(np.arange(rows), {name: np.zeros((rows, *shape)) for name, shape in shapes.items()})


def costs(trajectory, **settings):
    found = koopscope.inspect(trajectory, lints=False, **settings).attrs["costs"]
    return {cost["partition"]: cost for cost in found}


SHAPES = {
    "dense": {"a.weight": (7, 6), "a.bias": (7,), "b.weight": (2, 7), "b.bias": (2,)},
    "convolution": {"c.weight": (5, 3, 2, 2), "c.bias": (5,)},
    "scalar": {"a.weight": (3, 2), "a.bias": (3,), "a.scale": ()},
    "recurrent": {"lstm.weight_ih_l0": (12, 5), "lstm.weight_hh_l0": (12, 3), "lstm.bias_ih_l0": (12,)},
}


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_group_sizes__are_those_of_the_partition(shapes, partition):
    weights = WeightVector.of(recording(**shapes))
    expected = Counter()
    for block in koopscope.Partition.parse(partition).blocks(weights):
        expected[block.members.shape[1]] += block.members.shape[0]
    found = Counter()
    for count, size in group_sizes(weights, partition):
        found[size] += count
    assert found == expected


def test_inspect__narrow_groups_cost_d_squared_n_and_wide_ones_d_n_squared():
    narrow = [costs(recording(**{"a.weight": (8, d)}))["node"]["fit_flops"] for d in (10, 20)]
    assert narrow[1] / narrow[0] == pytest.approx((41 / 21) ** 2)
    wide = [costs(recording(**{"a.weight": (units, 400)}))["network"]["fit_flops"] for units in (8, 16)]
    assert wide[1] / wide[0] == pytest.approx(2)
    longer = [costs(recording(rows, **{"a.weight": (8, 400)}))["network"]["fit_flops"] for rows in (50, 100)]
    assert longer[1] / longer[0] == pytest.approx(4, rel=0.2)  # and 2 n d r for the basis


def test_inspect__a_jump_grows_with_the_logarithm_and_a_step_with_the_square():
    found = [costs(recording(**{"a.weight": (8, d)}))["node"] for d in (10, 20)]
    assert found[1]["step_flops"] == 4 * found[0]["step_flops"] == 8 * 2 * 20**2
    assert found[1]["jump_flops"] == 8 * found[0]["jump_flops"]


def test_inspect__says_which_partitions_are_cheaper_than_training():
    assert not any(cost["cheaper"] for cost in costs(linear_run(), step_seconds=1e-9).values())
    assert all(cost["cheaper"] for cost in costs(linear_run(), step_seconds=1.0).values())


def test_inspect__step_seconds_is_told_or_guessed():
    told = koopscope.inspect(linear_run(), step_seconds=0.5).attrs
    guessed = koopscope.inspect(linear_run(), lints=False).attrs
    assert (told["step_seconds"], told["step_seconds_guessed"]) == (0.5, False)
    assert guessed["step_seconds_guessed"]
    assert guessed["rates"]["reading"] == READ_RATE


@pytest.mark.parametrize("step_seconds", [0, -1.0, float("nan")])
def test_inspect__step_seconds_that_cannot_be_used(step_seconds):
    with pytest.raises(UsageError, match="step_seconds"):
        koopscope.inspect(linear_run(), step_seconds=step_seconds)


def test_inspect__counts_what_fits_read_and_hold():
    from koopscope import costs
    from koopscope.statistics import grid, strips

    for name in ("FEW_BYTES", "PIECE_BYTES", "THREADS_PER_CORE"):
        assert getattr(costs, name) == getattr(strips, name)
    for name in ("LINEAR_SHARE", "OSCILLATION_ROWS"):
        assert getattr(costs, name) == getattr(grid, name)


def test_rates__pass_through_what_was_measured():
    rates = Rates(product=1e9, small=2e-5, large=3e-3, gram=1e-3, memory=1e10)
    assert rates.decomposition(8) == pytest.approx(2e-5)
    assert rates.decomposition(64) == pytest.approx(3e-3)
    assert rates.symmetric(200) == pytest.approx(8e-3)


def test_rates__on_a_machine_of_half_the_speed_all_takes_twice_as_long(monkeypatch):
    fast = Rates(product=4e10, small=5e-5, large=3e-3, gram=1e-3, memory=1e10)
    slow = Rates(product=2e10, small=1e-4, large=6e-3, gram=2e-3, memory=5e9)
    monkeypatch.setattr("koopscope.costs.READ_RATE", np.inf)  # reading is measured by itself
    found = []
    for rates in (fast, slow):
        monkeypatch.setattr("koopscope.costs.measured_rates", lambda rates=rates: rates)
        found.append(costs(recording(**SHAPES["dense"])))
    for partition in PARTITIONS:
        for what in ("fit_seconds", "forecast_seconds"):
            assert found[1][partition][what] == pytest.approx(2 * found[0][partition][what])
        assert found[1][partition]["fit_flops"] == found[0][partition]["fit_flops"]


@pytest.mark.parametrize("rows", [90, 300, 4000])
@pytest.mark.parametrize("known", [True, False])
def test_read_bytes__is_what_a_fit_reads(tmp_path, monkeypatch, rows, known):
    monkeypatch.setattr(GrowingArray, "finish", GrowingArray.trim)  # keeps chunks of 16 rows
    with koopscope.TrajectoryWriter(tmp_path / "run.zarr", layout="torch", block_steps=16) as writer:
        for step in range(rows):
            writer.append(step, {"a.weight": np.full((4, 3), step / rows, "float32")})
    run, told = koopscope.open_trajectory(tmp_path / "run.zarr"), []
    if not known:
        del run["a.weight"].encoding["preferred_chunks"]
    koopscope.collect(run, "node", progress=lambda *said: told.append(said))
    read = next(total for what, _, total in told if what == "reading weights")
    work = Work.of(run, WeightVector.of(run))
    assert abs(work.read_bytes - read) <= 2 * 16 * 12 * 4  # a chunk at either end, of which a part is read
    if known and rows == 4000:
        assert work.read_bytes < 0.7 * work.rows * work.row_bytes
    elif not known:
        assert work.read_bytes == work.rows * work.row_bytes
