"""What a forecast is worth to the training: the loss there, and the steps it would have saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import LossError, UsageError
from koopscope.metrics import Floats, equivalent_steps, running_mean
from koopscope.trajectory import metric_names
from koopscope.variables import check
from koopscope.weight_vector import WeightVector
from koopscope.whole_numbers import whole_number

AGREEMENT = 1e-3  # float32 training and float64 evaluation of one loss differ by far less
METRIC = "loss"


def check_smoothing(loss: Any, metric: str, smooth: int) -> int:
    """Check, before any work, that what is said of the loss can be used; give the rows of the running mean.

    Raises
    ------
    UsageError
        If ``smooth`` is not whole, or there is no loss that ``metric`` and ``smooth`` could be about.
    """
    rows = whole_number("smooth", smooth)
    if loss is None and (metric, rows) != (METRIC, 1):
        raise UsageError("metric and smooth are about the loss: say loss= (--loss) too, or leave them out")
    return rows


def loss_figures(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float],
    flat: Mapping[str, Floats],
    weights: WeightVector,
    trajectory: xr.Dataset,
    t2: int,
    leads: npt.NDArray[np.int64],
    *,
    metric: str = METRIC,
    smooth: int = 1,
) -> xr.Dataset:
    """Evaluate a loss at w(t2), the true and the forecast weights, and find T_eq on the recorded loss.

    Parameters
    ----------
    loss
        Callable on a mapping of tensor names to float64 arrays.
    flat
        ``t2`` of shape ``(weight,)``, ``true``, ``forecast`` and those of further forecasts of shape
        ``(lead, weight)``.
    weights, trajectory
        The tensors, and the recording with its metrics.
    t2, leads
        In training steps.
    metric
        Name of the recorded series that the callable computes; other than ``loss`` it must be there.
    smooth
        Rows of the running mean in which T_eq is looked for; odd, so that the mean has a middle row.

    Raises
    ------
    LossError
        If the callable fails, returns no number, or disagrees with the recorded loss at w(t2).
    UsageError
        If the recording has no such metric, or the mean is of an even number of rows or longer than it.
    """
    recorded = _recorded_loss(trajectory, metric)
    if recorded is not None:
        _require_mean(smooth, recorded.size)
    at_t2 = checked_loss(loss, weights, flat["t2"], trajectory, t2, metric=metric)
    steps = trajectory["step"].to_numpy().astype(np.int64)
    found = {name: _losses(loss, weights, rows) for name, rows in flat.items() if name != "t2"}
    data: dict[str, Any] = {f"loss_{name}": (("lead",), values) for name, values in found.items()}
    data["loss_at_t2"] = ((), at_t2)
    data["success"] = (("lead",), found["forecast"] < at_t2)
    attrs = {"metric": metric, "smooth": smooth}
    if recorded is None:
        return check(xr.Dataset(data, attrs=attrs))
    smoothed = running_mean(recorded, smooth)
    for name, suffix in (("forecast", ""), ("filtered", "_filtered")):
        if name in found:
            counts = [equivalent_steps(steps, smoothed, t2, value) for value in found[name]]
            saved = np.array([count for count, _ in counts])
            data[f"t_eq{suffix}"] = (("lead",), saved)
            data[f"t_eq_ratio{suffix}"] = (("lead",), saved / np.maximum(leads, 1))
            data[f"t_eq_censored{suffix}"] = (("lead",), np.array([censored for _, censored in counts]))
    data["recorded_loss"] = (("step_recorded",), recorded)
    if smooth > 1:
        data["smoothed_loss"] = (("step_recorded",), smoothed)
    return check(xr.Dataset(data, coords={"step_recorded": steps}, attrs=attrs))


def checked_loss(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float],
    weights: WeightVector,
    last: Floats,
    trajectory: xr.Dataset | None,
    t2: int,
    *,
    metric: str = METRIC,
) -> float:
    """Evaluate a loss at w(t2), and refuse it where it disagrees with the recorded one.

    Raises
    ------
    LossError
        If the callable fails, returns no number, or disagrees.
    """
    value = evaluate_loss(loss, weights, last)
    recorded = None if trajectory is None else _recorded_loss(trajectory, metric)
    if trajectory is not None and recorded is not None:
        steps = trajectory["step"].to_numpy().astype(np.int64)
        _require_agreement(value, float(recorded[np.searchsorted(steps, t2)]), t2)
    return value


def _losses(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float], weights: WeightVector, rows: Floats
) -> Floats:
    return np.array([evaluate_loss(loss, weights, row) for row in rows])


def evaluate_loss(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float], weights: WeightVector, row: Floats
) -> float:
    """Evaluate a loss at one row of flat weights; NaN where these are not finite.

    Raises
    ------
    LossError
        If the callable fails or returns no number.
    """
    if not np.isfinite(row).all():
        return float("nan")
    try:
        value = float(loss(weights.split(row)))
    except Exception as error:  # the callable is the user's: whatever it raises is reported as theirs
        raise LossError(
            f"the loss callable raised {type(error).__name__}: {error}; it is called with a mapping of "
            f"tensor names ({', '.join(slot.name for slot in weights.tensors)}) to float64 arrays"
        ) from error
    return value


def _recorded_loss(trajectory: xr.Dataset, metric: str) -> Floats | None:
    metrics = metric_names(trajectory)
    if metric in metrics:
        return np.asarray(trajectory[metric].to_numpy(), np.float64)
    if metric == METRIC:
        return None
    held = ", ".join(metrics) or "none"
    raise UsageError(f"metric={metric!r} is no series of the recording, which holds {held}")


def _require_mean(smooth: int, rows: int) -> None:
    if smooth < 1 or smooth % 2 == 0 or smooth > rows:
        raise UsageError(
            f"smooth counts the rows of a running mean: expected an odd number of at least 1 and at most "
            f"{rows}, the rows of the recording; got {smooth}"
        )


def _require_agreement(value: float, recorded: float, t2: int) -> None:
    if not abs(value - recorded) <= AGREEMENT * abs(recorded):
        raise LossError(
            f"the loss callable gives {value:.6g} at w(t2={t2}), the recording holds {recorded:.6g}: it is "
            f"not the loss of this run (they must agree within {AGREEMENT:g} relative)"
        )
