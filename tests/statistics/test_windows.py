from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koopscope.errors import StepError, UsageError, WindowError
from koopscope.statistics import choose_window

STEPS = np.arange(100, 1101, 5)


def test_choose_window__defaults_leave_the_last_fifth():
    window = choose_window(STEPS)
    assert (window.t1, window.t2, window.lag, window.spacing) == (100, 900, 5, 5)
    assert window.n_snapshots == 161


def test_choose_window__default_lag_is_the_nearest_multiple():
    assert choose_window(STEPS, lags_per_window=100).lag == 10  # 800 / 100 = 8
    assert choose_window(STEPS, lags_per_window=10_000).lag == 5


def test_choose_window__t2_between_rows_moves_to_the_row_before():
    window = choose_window(STEPS, t1=101, t2=503)
    assert (window.t1, window.t2) == (105, 500)


def test_choose_window__grid_is_counted_back_from_t2():
    window = choose_window(STEPS, t1=100, t2=500, lag=35)
    assert STEPS[window.grid_rows].tolist() == list(range(115, 501, 35))
    assert window.n_snapshots == len(window.grid_rows)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"t1": 99}, WindowError, "t1=99 is outside the recording; the recording holds steps 100 to 1100"),
        ({"t1": 2000}, WindowError, "outside the recording"),
        ({"t2": 1101}, WindowError, "t2=1101 is outside"),
        ({"t2": 50}, WindowError, "outside the recording"),
        ({"t1": 600, "t2": 600}, WindowError, "must come before"),
        ({"t1": 600, "t2": 608}, WindowError, "at least 3"),
        ({"t1": 601, "t2": 603}, WindowError, "holds 0 recorded snapshots"),
        ({"lag": 7}, StepError, "nearest is 5"),
        ({"lag": 0}, UsageError, "positive"),
        ({"lag": 795}, WindowError, "--lag 400 or less"),
        ({"t1": 101.5}, UsageError, "t1 must be a whole number"),
        ({"lag": float("nan")}, UsageError, "lag must be a whole number"),
        ({"t2": "x"}, UsageError, "t2 must be a whole number"),
        ({"average": 99999}, WindowError, "161 rows in t1=100..t2=900; use --average 53 or less"),
    ],
)
def test_choose_window__errors_say_what_is_inside(settings, error, words):
    with pytest.raises(error, match=words):
        choose_window(STEPS, **settings)


def test_choose_window__uneven_steps_name_the_longest_even_stretch():
    steps = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000, 4500])
    with pytest.raises(StepError, match="--t1 1000 --t2 4000"):
        choose_window(steps, t2=4500)
    assert choose_window(steps, t1=1000, t2=4000).spacing == 1000
    with pytest.raises(StepError, match="no 3 steps in a row"):
        choose_window(2 ** np.arange(9), t2=256)


@pytest.mark.parametrize("n_rows", [0, 1, 2])
def test_choose_window__a_recording_too_short_says_so(n_rows):
    with pytest.raises(WindowError, match=f"holds {n_rows} rows"):
        choose_window(np.arange(n_rows))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(3, 200), spacing=st.integers(1, 9), start=st.integers(0, 50), stride=st.integers(1, 20))
def test_choose_window__grid_ends_on_t2_and_stays_inside(n, spacing, start, stride):
    steps = start + spacing * np.arange(n)
    if (n - 1) // stride + 1 < 3:
        return
    window = choose_window(steps, t1=start, t2=int(steps[-1]), lag=stride * spacing)
    grid = steps[window.grid_rows]
    assert grid[-1] == window.t2
    assert grid[0] >= window.t1
    assert np.all(np.diff(grid) == window.lag)
    assert grid[0] - window.lag < window.t1
