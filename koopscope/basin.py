"""Sliding windows over a run: predictable? contracting? in a basin, since when? which t1 and t2?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.basin_criteria import ON_CIRCLE, Judged, is_predictable, judge_windows
from koopscope.basin_table import GroupVerdicts, basin_table, judge_noisy, judge_quiet
from koopscope.errors import NonFiniteError, StepError, WindowError
from koopscope.kernels.accelerate import announce_compilation
from koopscope.operators import Floats
from koopscope.parallel import single_threaded_blas
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener, listener
from koopscope.statistics import Grid, Statistics, choose_window
from koopscope.statistics.gathering import read_grid
from koopscope.statistics.gram import increment_grams
from koopscope.statistics.windows import check_lag
from koopscope.suggestions import suggest
from koopscope.trajectory import validate
from koopscope.variables import check
from koopscope.weight_vector import WeightVector
from koopscope.whole_numbers import whole_number
from koopscope.window_fits import WindowFits

WINDOWS = 5  # that fit into a recording, one after another
LAGS = 30  # snapshots a window is cut into
FEWEST_LAGS = 8
NOISY = 0.5  # median one-step error of the network above which a run counts as stochastic
_GRAM_BYTES = 64 * 2**20  # increment Gram matrices held at a time


def find_basin(
    trajectory: xr.Dataset | Statistics,
    partition: str | Partition = "network",
    *,
    stochastic: bool | None = None,
    window: int | None = None,
    lag: int | None = None,
    progress: bool | Listener | None = None,
) -> xr.Dataset:
    """Say of each window of a run whether it is predictable, contracting, and in a basin of attraction.

    In every window of ``m`` lags an affine map is fitted, its rank chosen on the last quarter, which is
    held out. With ``r`` its spectral radius, offset apart, and ``w*`` its fixed point:

    - *predictable*: one-step and hindcast errors of the quarter are at most 0.1 of what moved, and the
      hindcast is at most 0.02 or 1.05 times the better of hold and linear;
    - *contracting*: ``m (1 - r) >= 1`` in this window and the two before it;
    - *fixed point agrees*: ``|w*_i - w*_(i-1)| <= 0.1 |w(end of window i-1) - w*_i|``, window i-1 ending
      where window i begins;
    - *in a basin*: all three. A window in which nothing moves beyond the recording's rounding passes.

    Stochastic runs are judged over the whole recording: contracting if ``n (1 - r) >= 1`` at rank three, or
    the mean square displacement grows slower than a walk's, either with p <= 0.02 against 99 surrogates;
    then windows count as in the basin once their mean has settled. A run is taken for stochastic where the
    median of the network's one-step errors exceeds 0.5.

    The raw indicator *on unit circle* (all eigenvalues within 0.01 of it, per step) is there for
    comparison: it also holds for runs that drift, walk or slow down for ever.

    Parameters
    ----------
    trajectory
        Dataset from `open_trajectory`, or `Statistics` from `collect`, whose grid of snapshots is used then.
    partition
        `Partition` or its spelling; ignored where statistics are given.
    stochastic
        Whether the run has gradient noise; by default found out.
    window
        Training steps of a window; by default a fifth of the recording.
    lag
        Training steps between snapshots; by default the multiple of the spacing nearest to a thirtieth of the
        window.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    xr.Dataset
        Dims ``group``, ``window``: ``predictable``, ``contracting``, ``fixed_point_agrees``, ``in_basin``,
        ``on_unit_circle``, ``spectral_radius``, ``one_step_error``, ``hindcast_error``,
        ``window_eigenvalue``; per group ``entry_step`` (NaN if never) between ``entry_low`` and
        ``entry_high``, ``contracting_modes`` and ``contraction_p``. Coords ``window_start`` and
        ``window_end`` in steps. Attributes: ``stochastic``, ``suggested`` with ``t1``, ``t2``, ``lag`` and
        ``T``, and ``first_predictable``.

    Raises
    ------
    WindowError, StepError, NonFiniteError, MemoryBudgetError
        If the recording cannot serve the windows.
    PartitionError, LayoutError
        If the partition does not fit the recording.

    Examples
    --------
    >>> from koopscope.simulation import settling_run
    >>> basin = find_basin(settling_run("contraction"))
    >>> bool(basin["in_basin"][0, -1]), bool(find_basin(settling_run("drift"))["in_basin"].any())
    (True, False)
    """
    tell = listener(progress)
    if isinstance(trajectory, Statistics):
        grid, blocks = trajectory.grid, [block.block for block in trajectory.blocks]
        spelling, source = trajectory.partition, trajectory.source
        m = _lags_of(grid, whole_number("window", window))
    else:
        validate(trajectory)
        resolved = Partition.parse(partition)
        weights = WeightVector.of(trajectory)
        blocks, spelling = resolved.blocks(weights), str(resolved)
        source = str(trajectory.attrs.get("source", ""))
        grid, m = _read(trajectory, weights, window, lag, tell)
    with announce_compilation(lambda: tell("compiling kernels (first run only, kept on disk)", 0, 0)):
        network = _network_products(grid)
    with single_threaded_blas():
        judged = judge_windows(network, m, float(rounding_errors(grid.weights, grid.last).sum()))
        error = noise_level(judged.fits)
        noisy = error > NOISY if stochastic is None else bool(stochastic)
        groups = list(_judge_groups(grid, blocks, m, network, judged, noisy, tell))
        found = _suggested(network, m, judged.fits, grid)
    attrs = {
        "koopscope_result": "basin",
        "partition": spelling,
        "source": source,
        "stochastic": noisy,
        "stochastic_rule": "asked for"
        if stochastic is not None
        else f"median one-step error {error:.3g} {'>' if noisy else '<='} {NOISY:g}",
        "window": m * grid.window.lag,
        "lag": grid.window.lag,
        "tolerance": ON_CIRCLE,
        **found,
    }
    first = grid.window.t2 - (grid.window.n_snapshots - 1) * grid.window.lag
    starts = first + np.arange(judged.in_basin.size) * grid.window.lag
    table = basin_table(groups, blocks, starts, attrs)
    if isinstance(trajectory, xr.Dataset) and "loss" in trajectory:
        loss = trajectory["loss"].to_numpy().astype(np.float64)
        table = table.assign_coords(step_recorded=trajectory["step"].to_numpy().astype(np.int64))
        table = table.assign(recorded_loss=("step_recorded", loss))
    return check(table)


def noise_level(fits: WindowFits) -> float:
    """Median one-step error of the windows that move: about 1 for a walk, small for full batches."""
    moving = ~fits.still
    return float(np.median(fits.one_step[moving])) if moving.any() else 0.0


def settle(steps: npt.NDArray[np.int64], window: int | None, lag: int | None) -> tuple[int, int, int]:
    """Settle window and lag in training steps, and the number of lags in a window.

    Raises
    ------
    WindowError
        If the window is too short or too long.
    UsageError
        If window or lag is not whole, or the lag not positive.
    StepError
        If the lag is no multiple of the spacing.
    """
    length = int(steps[-1] - steps[0]) if steps.size else 0
    spacing = int(steps[-1] - steps[-2]) if steps.size > 1 else 1
    window, lag = whole_number("window", window), whole_number("lag", lag)
    whole = max(length // WINDOWS, 1) if window is None else window
    chosen = max(1, round(whole / LAGS / spacing)) * spacing if lag is None else lag
    check_lag(chosen, spacing)
    m = round(whole / chosen)
    if m < FEWEST_LAGS:
        raise WindowError(
            f"a window of {whole} steps holds {m} lags of {chosen} steps, sliding windows need at least "
            f"{FEWEST_LAGS}; use a longer --window or a shorter --lag"
        )
    return m * chosen, chosen, m


def _read(
    trajectory: xr.Dataset, weights: WeightVector, window: int | None, lag: int | None, tell: Listener
) -> tuple[Grid, int]:
    steps = trajectory["step"].to_numpy().astype(np.int64)
    if steps.size < FEWEST_LAGS + 1:
        raise WindowError(
            f"the recording holds {steps.size} rows, sliding windows need at least {FEWEST_LAGS + 1}"
        )
    whole_window, chosen, m = settle(steps, window, lag)
    length = int(steps[-1] - steps[0])
    if length < whole_window:
        raise WindowError(
            f"a window of {whole_window} steps does not fit into the recording's {length}; use --window "
            f"{max(length // WINDOWS, 1)}"
        )
    try:
        whole = choose_window(steps, t1=int(steps[0]), t2=int(steps[-1]), lag=chosen, min_snapshots=m + 1)
        return read_grid(trajectory, weights, whole, tell), m
    except (StepError, NonFiniteError) as error:
        hint = "that is for fits; for basins select rows in Python, trajectory.sel(step=slice(t1, t2))"
        raise type(error)(f"{error}; {hint}") from error


def _lags_of(grid: Grid, window: int | None) -> int:
    n = grid.window.n_snapshots - 1
    m = n // WINDOWS if window is None else round(window / grid.window.lag)
    if not FEWEST_LAGS <= m <= n:
        raise WindowError(
            f"a window of {m} lags does not suit statistics of {n} lags: {FEWEST_LAGS} to {n} are needed; "
            f"collect with a shorter lag"
        )
    return m


def _network_products(grid: Grid) -> Floats:
    increments = np.diff(grid.snapshots.astype(np.float64), axis=0)
    return np.asarray(increments @ increments.T)


def rounding_errors(weights: WeightVector, last: Floats) -> Floats:
    """Mean square rounding error of each recorded weight, shape ``(weight,)``: spacing squared / 12."""
    spacing = [np.full(slot.size, np.finfo(slot.dtype).eps) for slot in weights.tensors]
    return np.asarray((np.concatenate(spacing) * last) ** 2 / 12)


def _judge_groups(
    grid: Grid,
    blocks: list[GroupBlock],
    m: int,
    network: Floats,
    of_network: Judged,
    noisy: bool,
    tell: Listener,
) -> Iterator[GroupVerdicts]:
    rounding = rounding_errors(grid.weights, grid.last)
    total, done = sum(block.members.shape[0] for block in blocks), 0
    whole = total == 1 and blocks[0].layer == "network"
    for block in blocks:
        at_once = max(1, _GRAM_BYTES // network.nbytes)
        for start in range(0, block.members.shape[0], at_once):
            chosen = slice(start, start + at_once)
            part = replace(block, members=block.members[chosen], units=block.units[chosen])
            products = network[None] if whole else increment_grams(grid.snapshots, part).products
            for members, own in zip(part.members, products, strict=True):
                tell("judging windows", done, total)
                judged = of_network if whole else judge_windows(own, m, float(rounding[members].sum()))
                yield judge_noisy(own, m, judged) if noisy else judge_quiet(judged, m)
                done += 1
    tell("judging windows", total, total)


def _suggested(network: Floats, m: int, fits: WindowFits, grid: Grid) -> dict[str, Any]:
    """Suggest t1, t2, lag and T in training steps; t2 ends the last predictable window, if there is one."""
    window = grid.window
    origin = window.t2 - network.shape[0] * window.lag
    predictable = np.flatnonzero(is_predictable(fits))
    last = int(predictable[-1]) + m if predictable.size else network.shape[0]
    found = suggest(network, m, last)
    return {
        "suggested": {
            "t1": origin + found.first * window.lag,
            "t2": origin + found.last * window.lag,
            "lag": found.stride * window.lag,
            "T": found.horizon * window.lag,
        },
        "first_predictable": origin + (int(predictable[0]) + m) * window.lag if predictable.size else None,
    }
