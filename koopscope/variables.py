"""The registry of every dimension and variable that koopscope creates: what it is, in which units.

Each result passes through `check`, so that the documentation made from this table cannot drift from what
the functions return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

DIMS = {
    "step": "recorded training steps",
    "step_recorded": "recorded training steps, beside forecasts that have steps of their own",
    "lead": "training steps after t2",
    "group": "groups of one layer and size, in the order of the partition",
    "member": "weights of a group",
    "state": "coordinates an operator acts on: the group's weights, or reduced coordinates",
    "state_next": "the same coordinates one lag later",
    "mode": "eigenvalues of a group, largest modulus first",
    "eigenvalue": "eigenvalues of all groups in one list",
    "layer": "layers of the network",
    "forecast": "fit, the baselines hold, linear and (where rows are averaged) mean, and filtered",
    "tensor": "tensors of a recording",
    "candidate": "settings in a backtest's race",
    "run": "recordings of an ensemble, or trainings recorded together",
    "quantile": "shares of the runs of an ensemble",
    "origin": "training steps that a backtest takes for t2",
    "window": "sliding windows of a run, by their end",
    "criterion": "how weights are ranked for pruning",
    "item": "runs, or layers of runs, that are compared",
    "item_other": "the same once more",
    "permutation": "relabellings of the items of a comparison",
    "label": "labels of a comparison, such as optimisers",
    "label_other": "the same once more",
}


@dataclass(frozen=True)
class Variable:
    """One entry of the registry.

    ``dims`` are in order; ``kind`` is NumPy's dtype kind (f float, c complex, i integer, b boolean,
    O string).
    """

    dims: tuple[str, ...]
    kind: str
    units: str
    meaning: str


VARIABLES = {
    "operator": Variable(("group", "state_next", "state"), "f", "", "Koopman operator over one lag"),
    "displacement": Variable(
        ("group", "state"), "f", "weights", "forecast change over the first lag after t2"
    ),
    "basis": Variable(
        ("group", "member", "state"), "f", "", "lifts a change of reduced coordinates to weights"
    ),
    "centre": Variable(("group", "member"), "f", "weights", "point the fitted pairs are centred on"),
    "origin": Variable(("group", "member"), "f", "weights", "where forecasts start: w(t2), or the last mean"),
    "last": Variable(("group", "member"), "f", "weights", "weights at t2"),
    "slope": Variable(("group", "member"), "f", "weights/step", "least-squares slope of the baseline linear"),
    "member_index": Variable(("group", "member"), "i", "", "index in the flat order of all weights"),
    "unit": Variable(("group",), "i", "", "output unit a group belongs to"),
    "eigenvalue": Variable(("group", "mode"), "c", "per lag", "eigenvalue of the operator"),
    "residual": Variable(("group", "mode"), "f", "", "one-lag error of the eigenfunction over its movement"),
    "amplitude": Variable(
        ("group", "mode"), "f", "weights/lag", "the mode's share of the forecast's first lag"
    ),
    "rank": Variable(("group",), "i", "", "singular directions kept"),
    "condition": Variable(("group",), "f", "", "condition number of the fitted snapshots before truncation"),
    "scale": Variable(("group",), "f", "weights", "root mean square length of a one-lag increment"),
    "eigenvalue_per_step": Variable(
        ("eigenvalue",), "c", "per step", "principal root: eigenvalue ** (1 / lag)"
    ),
    "modulus": Variable(("eigenvalue",), "f", "per lag", "absolute value of the eigenvalue"),
    "growth_rate": Variable(
        ("eigenvalue",), "f", "1/step", "log of the modulus over the lag; below 0 decays"
    ),
    "frequency": Variable(("eigenvalue",), "f", "cycles/step", "argument of the eigenvalue / (2 pi lag)"),
    "e_folding_time": Variable(
        ("eigenvalue",), "f", "steps", "steps in which the mode changes by a factor e"
    ),
    "eigenvalue_class": Variable(
        ("eigenvalue",), "O", "", "offset, slow, decaying, oscillating, growing or noise; attrs have the rule"
    ),
    "growth_low": Variable(("eigenvalue",), "f", "1/step", "lower bound of the growth rate"),
    "growth_high": Variable(("eigenvalue",), "f", "1/step", "upper bound of the growth rate"),
    "frequency_low": Variable(("eigenvalue",), "f", "cycles/step", "lower bound of the frequency"),
    "frequency_high": Variable(("eigenvalue",), "f", "cycles/step", "upper bound of the frequency"),
    "interval_trusted": Variable(
        ("eigenvalue",), "b", "", "the bounds were measured to cover as often as they say"
    ),
    "relative_l2": Variable(("lead", "forecast"), "f", "", "|error|_2 / |evolution|_2"),
    "error_to_evolution": Variable(
        ("lead", "forecast"), "f", "", "median |error| / median |evolution| over the weights that moved"
    ),
    "skill_hold": Variable(("lead",), "f", "", "1 - |error|_2 / |error of hold|_2"),
    "skill_linear": Variable(("lead",), "f", "", "1 - |error|_2 / |error of linear|_2"),
    "skill_mean": Variable(("lead",), "f", "", "1 - |error|_2 / |error of mean|_2"),
    "moved": Variable(("lead",), "i", "", "number of weights that moved between t2 and t2 + lead"),
    "backtest_error": Variable(
        ("candidate", "origin", "lead"), "f", "", "relative_l2 of a candidate's forecast from an origin"
    ),
    "score": Variable(("candidate",), "f", "", "mean over origins of the error at the largest lead"),
    "predicted_error": Variable(("lead",), "f", "", "largest error of the chosen candidate over origins"),
    "error_bound": Variable(("lead",), "f", "", "twice the largest predicted error up to the lead"),
    "predictable": Variable(("window",), "b", "", "the held-out quarter is forecast within a tenth"),
    "contracting": Variable(
        ("window",), "b", "", "an e-folding or more a window, in three windows; noisy runs: over all"
    ),
    "fixed_point_agrees": Variable(
        ("window",), "b", "", "the fixed point is that of the window before; noisy runs: the mean has settled"
    ),
    "in_basin": Variable(("window",), "b", "", "in a basin of attraction"),
    "on_unit_circle": Variable(
        ("window",), "b", "", "all eigenvalues per step lie within the tolerance of the unit circle"
    ),
    "spectral_radius": Variable(("window",), "f", "per lag", "largest modulus, the offset apart"),
    "one_step_error": Variable(
        ("window",), "f", "", "error of single lags in the held-out quarter over what moved"
    ),
    "hindcast_error": Variable(
        ("window",), "f", "", "error of the held-out quarter's forecast over what moved"
    ),
    "window_eigenvalue": Variable(("window", "mode"), "c", "per lag", "eigenvalues of the window's fit"),
    "entry_step": Variable((), "f", "steps", "step by which the run was in a basin; NaN if never"),
    "entry_low": Variable((), "f", "steps", "begin of the interval in which the basin was entered"),
    "entry_high": Variable((), "f", "steps", "end of the interval in which the basin was entered"),
    "contracting_modes": Variable((), "i", "", "eigenvalues with an e-folding or more (stochastic runs)"),
    "contraction_p": Variable((), "f", "", "smaller p-value of the two tests (stochastic runs)"),
    "recorded_loss": Variable(("step_recorded",), "f", "", "loss as recorded"),
    "loss_at_t2": Variable((), "f", "", "loss at w(t2)"),
    "loss_true": Variable(("lead",), "f", "", "loss at the recorded w(t2 + lead)"),
    "loss_forecast": Variable(("lead",), "f", "", "loss at the forecast"),
    "loss_linear": Variable(("lead",), "f", "", "loss at the forecast of the baseline linear"),
    "loss_mean": Variable(("lead",), "f", "", "loss at the last mean"),
    "loss_filtered": Variable(("lead",), "f", "", "loss at the forecast without its oscillating modes"),
    "smoothed_loss": Variable(("step_recorded",), "f", "", "running mean of the recorded loss"),
    "success": Variable(("lead",), "b", "", "the forecast's loss is below the loss at t2"),
    "t_eq": Variable(
        ("lead",), "f", "steps", "optimiser steps after t2 that first reach the forecast's loss"
    ),
    "t_eq_ratio": Variable(("lead",), "f", "", "t_eq / lead"),
    "t_eq_censored": Variable(("lead",), "b", "", "not reached inside the recording: t_eq is a lower bound"),
    "distance": Variable(
        ("item", "item_other"), "f", "", "mean way between eigenvalues per lag, optimally matched"
    ),
    "p_value": Variable((), "f", "", "(b + 1) / (m + 1): b of m relabellings are as far apart"),
    "statistic": Variable((), "f", "", "pseudo-F: distance between labels over distance within"),
    "permuted_statistic": Variable(("permutation",), "f", "", "the statistic of every relabelling"),
    "mean_distance": Variable(("label", "label_other"), "f", "", "mean distance between two items"),
    "speed_up": Variable(
        ("lead",), "f", "", "time of t_eq optimiser steps over the time to read, fit and forecast"
    ),
    "seconds_read": Variable((), "f", "s", "time to read the window"),
    "seconds_fit": Variable((), "f", "s", "time to fit, without reading"),
    "seconds_forecast": Variable((), "f", "s", "time to forecast all leads"),
    "problem": Variable((), "O", "", "why a run failed; empty where it did not"),
    "t_eq_filtered": Variable(("lead",), "f", "steps", "t_eq of the filtered forecast"),
    "t_eq_ratio_filtered": Variable(("lead",), "f", "", "t_eq_filtered / lead"),
    "t_eq_censored_filtered": Variable(("lead",), "b", "", "t_eq_filtered is a lower bound"),
}

_PREFIXES = {(), ("group",), ("layer",), ("run",)}  # summaries repeat per layer, per group and per run


def check(dataset: xr.Dataset) -> xr.Dataset:
    """Compare a result with the registry, give its variables their units and meaning, and return it.

    Raises
    ------
    TypeError
        If a variable is not registered, or has other dims or another dtype: a defect of koopscope.
    """
    coords = set(dataset.coords)
    for name, variable in dataset.variables.items():
        if name in coords:
            continue
        entry = VARIABLES.get(str(name))
        if entry is None:
            raise TypeError(f"variable {name!r} is not registered in koopscope.variables")
        dims = tuple(str(dim) for dim in variable.dims)
        spread_over = dims[: len(dims) - len(entry.dims)]
        as_registered = dims[len(spread_over) :] == entry.dims and spread_over in _PREFIXES
        if not as_registered and dims != ("eigenvalue",):  # the long form of a spectrum
            raise TypeError(f"{name!r} has dims {dims}, registered are {entry.dims}")
        if variable.dtype.kind != entry.kind:
            raise TypeError(f"{name!r} has dtype {variable.dtype}, registered is kind {entry.kind!r}")
        variable.attrs["long_name"] = entry.meaning
        if entry.units:
            variable.attrs["units"] = entry.units
    return dataset
