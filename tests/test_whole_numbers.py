"""Numbers that are not whole, and other values that no setting takes, are told so wherever they are given."""

from __future__ import annotations

import numpy as np
import pytest

import koopscope
from koopscope.errors import NonFiniteError, PartitionError, StepError, TrajectoryError, UsageError
from koopscope.simulation import linear_run
from koopscope.whole_numbers import whole_number

RUN = linear_run()


@pytest.mark.parametrize("value", [3, 3.0, np.int32(3), np.float32(3), np.array(3.0), RUN["step"][3]])
def test_whole_number__takes_what_is_whole(value):
    assert whole_number("lag", value) == 3
    assert type(whole_number("lag", value)) is int


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), "7", [3], 3 + 0j])
@pytest.mark.parametrize("name", ["t1", "t2", "lag", "delays", "average", "rank"])
def test_fit__takes_whole_numbers(name, value):
    with pytest.raises(UsageError, match=f"{name} must be a whole number"):
        koopscope.fit(RUN, **{name: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda value: koopscope.fit(RUN, method="auto", lead=value),
        lambda value: koopscope.backtest(RUN, lead=value),
        lambda value: koopscope.find_basin(RUN, window=value),
        lambda value: koopscope.find_basin(RUN, lag=value),
        lambda value: koopscope.spectrum(koopscope.fit(RUN, "network"), RUN, seed=value),
        lambda value: koopscope.verify(koopscope.fit(RUN, "network"), RUN, loss=len, smooth=value),
        lambda value: koopscope.ensemble([RUN], loss=len, smooth=value),
        lambda value: next(koopscope.follow_basin(koopscope.example_recording(), window=value)),
        lambda value: next(koopscope.follow_basin(koopscope.example_recording(), lag=value)),
    ],
)
@pytest.mark.parametrize("value", [1.5, "x"])
def test_others__take_whole_numbers_too(call, value):
    with pytest.raises(UsageError, match="must be a whole number"):
        call(value)


def test_settings_of_a_loss__need_one():
    with pytest.raises(UsageError, match="say loss="):
        koopscope.verify(koopscope.fit(RUN, "network"), RUN, smooth=3)
    with pytest.raises(UsageError, match="say loss="):
        koopscope.ensemble([RUN], metric="validation_loss")


@pytest.mark.parametrize("seed", [-1, None])
def test_spectrum__seeds(seed):
    with pytest.raises(UsageError, match="0 or more"):
        koopscope.spectrum(koopscope.fit(RUN, "network"), RUN, seed=seed)


@pytest.mark.parametrize("partition", [5, 1.5, b"node"])
def test_fit__partitions_are_words(partition):
    with pytest.raises(PartitionError, match="write network, layer"):
        koopscope.fit(RUN, partition)


def test_writer__steps_and_metrics_beyond_their_type(tmp_path):
    weights = {"fc.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(UsageError, match="every must be a whole number"):
        koopscope.TrajectoryWriter(tmp_path / "run.zarr", layout="torch", every=1.5)
    with koopscope.TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        with pytest.raises(StepError, match="within 64 bits"):
            writer.append(2**63, weights, loss=1.0)
        with pytest.raises(UsageError, match="step must be a whole number"):
            writer.append(0.5, weights, loss=1.0)
        with pytest.raises(UsageError, match="mapping of names to arrays"):
            writer.append(0, None)
        with pytest.raises(TrajectoryError, match="expected a number"):
            writer.append(0, weights, loss=10**400)
        writer.append(0.0, weights, loss=1.0)
    assert koopscope.open_trajectory(tmp_path / "run.zarr")["step"].values.tolist() == [0]


def test_find_basin__says_how_rows_are_selected():
    broken = RUN.copy(deep=True)
    broken["fc1.bias"][-1] = np.nan
    with pytest.raises(NonFiniteError, match=r"trajectory\.sel\(step=slice"):
        koopscope.find_basin(broken)
    with pytest.raises(StepError, match=r"the nearest is 10$"):
        koopscope.find_basin(RUN.isel(step=slice(None, None, 5)), lag=12)
