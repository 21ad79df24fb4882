"""From a fit to weights at later steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError
from koopscope.filtering import OSCILLATING, check_drop, filtered_maps
from koopscope.fit_tree import fitted_blocks, fitted_weights, require_kind
from koopscope.lazy_forecast import Course, lazy_tensors
from koopscope.operators import states_at
from koopscope.parallel import memory_budget, single_threaded_blas

ALTERNATING = -0.5  # correlation of consecutive increments below which a run is said to alternate


def predict(
    fit: xr.DataTree, lead: int | Sequence[int] | npt.NDArray[np.int64], *, drop: str | None = None
) -> xr.Dataset:
    """Forecast the weights ``lead`` training steps after t2.

    The displacement is what moves: ``w(t2 + m lag) = w(t2) + basis z(m)``, with ``z(m)`` by binary powers
    of the affine map. A lead between multiples of the lag interpolates linearly between the
    displacements on either side. Lead 0 is w(t2) exactly. Where rows were averaged, the last mean takes
    the place of w(t2), and leads are counted from the middle of its rows.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    lead
        Training steps after t2, one or many, each at least 0.
    drop
        ``"oscillating"`` leaves out the modes that all but flip their sign from lag to lag (eigenvalues
        within 45 degrees of the negative real axis): the forecast runs along the middle of such an
        oscillation, the floor of the valley that the optimiser bounces in, and at lead 0 is the middle, not
        w(t2).

    Returns
    -------
    xr.Dataset
        One variable a tensor, dims ``(lead, ...)`` with the tensor's own dims, float64; coord
        ``step = t2 + lead``. The attribute ``diverged`` lists leads at which a forecast is not finite.
        Leads that together exceed half the memory budget (1 GB) stay a lazy combination of recorded
        snapshots, computed lead by lead when they are read: take them one by one (``isel(lead=i)``).

    Raises
    ------
    UsageError
        If a lead is negative or no integer, or there is no such filter.
    ResultError
        If ``fit`` is not a fit.

    Warns
    -----
    UserWarning
        If the run alternates from row to row and the lag, an even number of rows, cannot see it.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> forecast = koopscope.predict(koopscope.fit(run, "node", t2=800, lag=10), 200)
    >>> true = run["fc1.weight"].sel(step=1000)
    >>> bool(abs(forecast["fc1.weight"].sel(lead=200) - true).max() < 1e-8)
    True
    """
    require_kind(fit, "fit")
    leads = check_leads(lead)
    check_drop(drop)
    _warn_if_blind(fit, leads, drop)
    weights = fitted_weights(fit)
    since_origin = leads.astype(np.float64) + float(fit.attrs["origin_offset"])
    with single_threaded_blas():
        courses = [_course(block, since_origin, int(fit.attrs["lag"]), drop) for block in fitted_blocks(fit)]
        if leads.size > 1 and leads.size * weights.size * 8 > memory_budget() // 2:
            tensors = lazy_tensors(courses, weights, leads.size)
            finite = np.all([np.isfinite(course.states).all(axis=(0, 2)) for course in courses], axis=0)
        else:
            flat = np.empty((leads.size, weights.size))
            for course in courses:
                flat[:, course.members] = course.at(slice(None))
            tensors, finite = weights.split(flat), np.isfinite(flat).all(axis=1)
    variables = {slot.name: (("lead", *slot.dims), tensors[slot.name]) for slot in weights.tensors}
    t2 = int(fit.attrs["t2"])
    return xr.Dataset(
        variables,
        coords={"lead": leads, "step": ("lead", t2 + leads)},
        attrs={
            "koopscope_result": "forecast",
            "t2": t2,
            "lag": int(fit.attrs["lag"]),
            "average": int(fit.attrs["average"]),
            "partition": fit.attrs["partition"],
            "method": fit.attrs["method"],
            "dropped": drop or "",
            "tensors": weights.to_attrs(),
            "diverged": leads[~finite].tolist(),
        },
    )


def check_leads(lead: int | Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Turn one or many leads into an integer array.

    Raises
    ------
    UsageError
        If a lead is negative, no integer, or none is given.
    """
    leads = np.atleast_1d(np.asarray(lead))
    if leads.ndim != 1 or leads.size == 0 or leads.dtype.kind not in "iu":
        raise UsageError(f"lead must be one or more whole numbers of training steps, got {lead!r}")
    if leads.min() < 0:
        raise UsageError(f"lead counts training steps after t2 and cannot be negative, got {leads.min()}")
    return leads.astype(np.int64)


def _course(block: xr.Dataset, leads: npt.NDArray[np.float64], lag: int, drop: str | None) -> Course:
    """Find the states of one block at all leads."""
    held = block.variables  # bare: labels would cost as much as the stepping
    if drop is None:
        states = states_at(held["operator"].to_numpy(), held["displacement"].to_numpy(), leads, lag)
    else:
        operator, displacement, start = filtered_maps(block)
        states = states_at(operator, displacement, leads, lag) + start[:, None, :]
    basis = held["basis"].to_numpy() if "basis" in held else None
    return Course(states, basis, held["origin"].to_numpy(), held["member_index"].to_numpy())


def _warn_if_blind(fit: xr.DataTree, leads: npt.NDArray[np.int64], drop: str | None) -> None:
    spacing, lag = int(fit.attrs["spacing"]), int(fit.attrs["lag"])
    alternates = float(fit.attrs["increment_correlation"]) < ALTERNATING
    even = (lag // spacing) % 2 == 0
    if alternates and even and drop == OSCILLATING:
        warnings.warn(
            f"drop={drop!r} drops nothing of the oscillation from row to row: a lag of {lag} steps (an even "
            f"number of rows) cannot see it; fit with an odd lag such as {lag + spacing}",
            UserWarning,
            stacklevel=3,
        )
    elif alternates and even and np.any((leads // spacing) % 2 == 1):
        warnings.warn(
            f"the run alternates from one recorded row to the next, and a lag of {lag} steps (an even number "
            f"of rows) cannot see it: leads of an odd number of rows are forecast as if even; "
            f"fit with an odd lag such as {lag + spacing}",
            UserWarning,
            stacklevel=3,
        )
