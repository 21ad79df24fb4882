"""Eigenvalues of a fit in one long table, in units of training steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from koopscope.eigenvalue_classes import RULE, classify
from koopscope.errors import ResultError, UsageError
from koopscope.fit_tree import fitted_blocks, require_kind
from koopscope.intervals import FEWEST_BLOCKS, FEWEST_LIVES, bootstrap_eigenvalues
from koopscope.parallel import single_threaded_blas
from koopscope.progress import Listener, listener
from koopscope.reduced_states import fitted_grid, reduced_states
from koopscope.statistics import Statistics
from koopscope.variables import check
from koopscope.whole_numbers import whole_number

_BOUNDS = ("growth_low", "growth_high", "frequency_low", "frequency_high")
INTERVAL_RULE = (
    f"trusted where n (1 - |lambda|) >= {FEWEST_LIVES:g}, bias taken away (which can move bounds off the "
    f"value listed), in {FEWEST_BLOCKS} blocks or more, with errors that are not correlated from lag to lag; "
    "elsewhere the intervals can be too narrow"
)


def spectrum(
    fit: xr.DataTree,
    trajectory: xr.Dataset | Statistics | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool | Listener | None = None,
) -> xr.Dataset:
    """List every eigenvalue of a fit with what it means in training steps.

    Per lag, ``lambda`` is an eigenvalue of the operator. Per step, ``lambda ** (1 / lag)`` (principal
    root), ``growth_rate = log|lambda| / lag``, ``frequency = arg(lambda) / (2 pi lag)``; frequencies are
    known only up to multiples of ``1 / lag``. The offset of an affine fit, an eigenvalue of exactly one,
    is carried apart and not listed. Conjugate pairs stand side by side.

    With the trajectory, a bias-corrected block bootstrap adds confidence intervals of growth rate and
    frequency; with the statistics that the fit was made from, no weight is read again. They can be too narrow
    where ``interval_trusted`` is false: few lives of the mode in the window, or errors that hang together, as
    observation noise and unresolved modes make them.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    trajectory
        Recording or `Statistics` that was fitted (affine fits); adds intervals.
    confidence
        Of the intervals.
    seed
        Of the bootstrap.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    xr.Dataset
        Dim ``eigenvalue``; coords ``layer``, ``path``, ``group``, ``mode``; variables ``eigenvalue``,
        ``eigenvalue_per_step``, ``modulus``, ``growth_rate``, ``frequency``, ``e_folding_time``,
        ``residual``, ``amplitude``, ``eigenvalue_class`` (by ``attrs["class_rule"]``). With intervals
        also ``growth_low``, ``growth_high``, ``frequency_low``, ``frequency_high``, ``interval_trusted``.

    Raises
    ------
    ResultError
        If ``fit`` is not a fit, or not one of this trajectory.
    UsageError
        If intervals are asked of a fit that is not affine.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import CONTRACTION, linear_run
    >>> table = spectrum(koopscope.fit(linear_run(drift=0), "network", t2=800, lag=10))
    >>> bool(abs(table["eigenvalue"] - CONTRACTION**10).min() < 1e-6)
    True
    """
    require_kind(fit, "fit")
    lag = int(fit.attrs["lag"])
    pieces = []
    for block in fitted_blocks(fit):
        values = block["eigenvalue"].to_numpy()
        group, mode = np.nonzero(~np.isnan(values))
        pieces.append(
            {
                "eigenvalue": values[group, mode],
                "residual": block["residual"].to_numpy()[group, mode],
                "amplitude": block["amplitude"].to_numpy()[group, mode],
                "group": group,
                "mode": mode,
                "layer": np.full(group.size, block.attrs["layer"], dtype=object),
                "path": np.full(group.size, block.attrs["path"], dtype=object),
            }
        )
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    values = joined["eigenvalue"]
    modulus = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.log(modulus) / lag
        folding = 1.0 / np.abs(growth)
        per_step = modulus ** (1 / lag) * np.exp(1j * np.angle(values) / lag)
    columns = {
        "eigenvalue": values,
        "eigenvalue_per_step": per_step,
        "modulus": modulus,
        "growth_rate": growth,
        "frequency": np.angle(values) / (2 * np.pi * lag),
        "e_folding_time": folding,
        "residual": joined["residual"],
        "amplitude": joined["amplitude"],
        "eigenvalue_class": classify(values, joined["residual"], (fit.attrs["t2"] - fit.attrs["t1"]) / lag),
    }
    coords = {name: ("eigenvalue", joined[name]) for name in ("layer", "path", "group", "mode")}
    attrs = {
        "koopscope_result": "spectrum",
        "class_rule": RULE,
        **{name: fit.attrs[name] for name in ("partition", "method", "t1", "t2", "lag", "spacing", "delays")},
    }
    if trajectory is not None:
        if not 0 < confidence < 1:
            raise UsageError(f"confidence must lie between 0 and 1, got {confidence}")
        seed = -1 if seed is None else whole_number("seed", seed)
        if seed < 0:
            raise UsageError("seed must be a number of 0 or more, so that intervals can be made again")
        columns |= _intervals(fit, trajectory, joined, confidence, seed, listener(progress))
        attrs |= {"confidence": confidence, "interval_rule": INTERVAL_RULE}
    table = xr.Dataset({name: ("eigenvalue", values) for name, values in columns.items()}, coords, attrs)
    return check(table)


def _intervals(
    fit: xr.DataTree,
    trajectory: xr.Dataset | Statistics,
    listed: dict[str, Any],
    confidence: float,
    seed: int,
    tell: Listener,
) -> dict[str, Any]:
    """Bootstrap group by group; a group's eigenvalues stand together in the list."""
    lag, n = int(fit.attrs["lag"]), listed["eigenvalue"].size
    bounds = {name: np.full(n, np.nan) for name in _BOUNDS}
    trusted = np.zeros(n, np.bool_)
    grid = fitted_grid(fit, trajectory)
    random = np.random.default_rng(seed)
    position = 0
    with single_threaded_blas():
        for states in reduced_states(fit, grid):
            own = slice(position, position + states.shape[1])
            position = own.stop
            if own.start == own.stop:
                continue
            tell("bootstrapping eigenvalues", position, n)
            found = bootstrap_eigenvalues(
                states, listed["eigenvalue"][own], confidence=confidence, random=random
            )
            with np.errstate(divide="ignore"):
                bounds["growth_low"][own] = np.log(found.modulus_low) / lag
                bounds["growth_high"][own] = np.log(found.modulus_high) / lag
            bounds["frequency_low"][own] = found.angle_low / (2 * np.pi * lag)
            bounds["frequency_high"][own] = found.angle_high / (2 * np.pi * lag)
            trusted[own] = found.trusted
    return {**bounds, "interval_trusted": trusted}


def as_spectrum(result: object) -> xr.Dataset:
    """Take a spectrum as it is, and list that of a fit.

    Raises
    ------
    ResultError
        If ``result`` is neither.
    """
    kind = result.attrs.get("koopscope_result") if isinstance(result, (xr.DataTree, xr.Dataset)) else None
    if isinstance(result, xr.DataTree) and kind == "fit":
        return spectrum(result)
    if isinstance(result, xr.Dataset) and kind == "spectrum":
        return result
    what = f"a {kind} result" if kind else f"a {type(result).__name__}"
    raise ResultError(
        f"expected a fit or a spectrum, got {what}; koopscope.fit(...) and koopscope.spectrum(...) make one"
    )
