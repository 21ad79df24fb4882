"""What a forecast is worth to the training: the loss there, and the steps it would have saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import LossError
from koopscope.metrics import Floats, equivalent_steps
from koopscope.variables import check
from koopscope.weight_vector import WeightVector

AGREEMENT = 1e-3  # float32 training and float64 evaluation of one loss differ by far less
METRIC = "loss"


def loss_figures(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float],
    flat: Mapping[str, Floats],
    weights: WeightVector,
    trajectory: xr.Dataset,
    t2: int,
    leads: npt.NDArray[np.int64],
) -> xr.Dataset:
    """Evaluate a loss at w(t2), the true and the forecast weights, and find T_eq on the recorded loss.

    Parameters
    ----------
    loss
        Callable on a mapping of tensor names to float64 arrays.
    flat
        ``t2`` of shape ``(weight,)``, ``true`` and ``forecast`` of shape ``(lead, weight)``.
    weights, trajectory
        The tensors, and the recording with its ``loss`` metric, if it has one.
    t2, leads
        In training steps.

    Raises
    ------
    LossError
        If the callable fails, returns no number, or disagrees with the recorded loss at w(t2).
    """
    at_t2 = _evaluate(loss, weights, flat["t2"])
    recorded = _recorded_loss(trajectory)
    steps = trajectory["step"].to_numpy().astype(np.int64)
    if recorded is not None:
        _require_agreement(at_t2, float(recorded[np.searchsorted(steps, t2)]), t2)
    true = np.array([_evaluate(loss, weights, row) for row in flat["true"]])
    forecast = np.array([_evaluate(loss, weights, row) for row in flat["forecast"]])
    data: dict[str, Any] = {
        "loss_at_t2": ((), at_t2),
        "loss_true": (("lead",), true),
        "loss_forecast": (("lead",), forecast),
        "success": (("lead",), forecast < at_t2),
    }
    if recorded is None:
        return check(xr.Dataset(data))
    found = [equivalent_steps(steps, recorded, t2, value) for value in forecast]
    saved = np.array([count for count, _ in found])
    data["t_eq"] = (("lead",), saved)
    data["t_eq_ratio"] = (("lead",), saved / np.maximum(leads, 1))
    data["t_eq_censored"] = (("lead",), np.array([censored for _, censored in found]))
    data["recorded_loss"] = (("step_recorded",), recorded)
    return check(xr.Dataset(data, coords={"step_recorded": steps}))


def _evaluate(
    loss: Callable[[Mapping[str, npt.NDArray[Any]]], float], weights: WeightVector, row: Floats
) -> float:
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


def _recorded_loss(trajectory: xr.Dataset) -> Floats | None:
    if METRIC not in trajectory or trajectory[METRIC].attrs.get("role") != "metric":
        return None
    return np.asarray(trajectory[METRIC].to_numpy(), np.float64)


def _require_agreement(value: float, recorded: float, t2: int) -> None:
    if not abs(value - recorded) <= AGREEMENT * abs(recorded):
        raise LossError(
            f"the loss callable gives {value:.6g} at w(t2={t2}), the recording holds {recorded:.6g}: it is "
            f"not the loss of this run (they must agree within {AGREEMENT:g} relative)"
        )
