"""A forecast against the recording that followed, beside the baselines, weight by weight and in loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import NonFiniteError, ResultError, WindowError
from koopscope.fit_tree import fitted_blocks, fitted_weights, require_kind
from koopscope.forecasting import check_leads, predict
from koopscope.loss import METRIC, check_smoothing, loss_figures
from koopscope.metrics import Floats, error_to_evolution, moved_count, relative_l2, skill
from koopscope.operators import baseline_displacements
from koopscope.trajectory import validate
from koopscope.variables import check
from koopscope.weight_vector import WeightVector

BASELINES = ("linear", "mean")  # whose loss is evaluated too; that of hold is the loss at t2

LossFunction = Callable[[Mapping[str, npt.NDArray[Any]]], float]


def verify(
    fit: xr.DataTree,
    trajectory: xr.Dataset,
    lead: int | Sequence[int] | npt.NDArray[np.int64] | None = None,
    *,
    loss: LossFunction | None = None,
    metric: str = METRIC,
    smooth: int = 1,
    drop: str | None = None,
) -> xr.DataTree:
    """Measure a fit's forecast against the true evolution after t2.

    ``error = forecast - true`` and ``evolution = true(t2 + lead) - w(t2)``, per weight; their summaries
    per group, layer and network, each beside ``hold`` (stay at w(t2)), ``linear`` (the slope of the
    window's last fifth) and, where rows are averaged, ``mean`` (stay at the last mean).

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    trajectory
        The recording it was made from, going on past t2.
    lead
        Recorded training steps after t2, one or many; by default up to the last recorded step.
    loss
        Callable ``loss(params) -> float`` on a mapping of tensor names to arrays of one step. Adds loss
        at t2, at the true and at the forecast weights, and at those of the baselines, success and T_eq.
    metric
        Name of the recorded series that ``loss`` computes, such as ``"validation_loss"``.
    smooth
        Rows, an odd number, of the running mean of that series in which T_eq is looked for: on minibatches
        the first passage of a noisy loss is luck, and about a tenth of an epoch steadies it.
    drop
        ``"oscillating"`` adds the forecast without its oscillating modes (see `koopscope.predict`), as
        ``filtered``, with a loss and a T_eq of its own.

    Returns
    -------
    xr.DataTree
        Root: ``relative_l2``, ``error_to_evolution``, ``skill_hold``, ``skill_linear``, ``moved`` for the
        network. Children: ``layers`` and ``groups/<block>`` with the same figures; ``error``,
        ``evolution`` and ``start`` with one variable a tensor; ``loss`` where a callable is given.

    Raises
    ------
    WindowError
        If the recording ends at t2, or does not hold a lead; the message names the nearest.
    ResultError
        If the recording is not the one that was fitted.
    LossError
        If the callable fails, or disagrees with the recorded loss at t2.
    UsageError
        If there is no such metric or filter, metric or smooth are given without a loss, or the running mean
        is not of an odd number of rows.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> verification = verify(koopscope.fit(run, "node", t2=800, lag=10), run, 200)
    >>> bool(verification["relative_l2"].sel(lead=200, forecast="fit") < 1e-8)
    True
    """
    require_kind(fit, "fit")
    validate(trajectory)
    smooth = check_smoothing(loss, metric, smooth)
    weights = fitted_weights(fit)
    _require_same_tensors(weights, trajectory)
    t2 = int(fit.attrs["t2"])
    steps = trajectory["step"].to_numpy().astype(np.int64)
    leads = _recorded_leads(steps, t2, lead)
    start = _flat_rows(trajectory, weights, np.searchsorted(steps, [t2]))[0]
    _require_same_run(fit, start)
    true = _flat_rows(trajectory, weights, np.searchsorted(steps, t2 + leads))
    forecast = _flat_forecast(predict(fit, leads), weights)
    evolution = true - start
    errors = {"fit": forecast - true}
    for name, moved in _flat_baselines(fit, weights, leads).items():
        errors[name] = moved - evolution
    params = {"t2": start, "true": true, "forecast": forecast}
    params |= {name: start + errors[name] + evolution for name in BASELINES if name in errors}
    if drop is not None:
        params["filtered"] = _flat_forecast(predict(fit, leads, drop=drop), weights)
        errors["filtered"] = params["filtered"] - true
    coords = {"lead": leads, "step": ("lead", t2 + leads)}
    children = {
        "/": _summary(errors, evolution).assign_coords(coords),
        "/layers": _layer_summaries(errors, evolution, weights).assign_coords(coords),
        "/error": _by_tensor(errors["fit"], weights, coords),
        "/evolution": _by_tensor(evolution, weights, coords),
        "/start": _by_tensor(start, weights, {}),
    }
    for block in fitted_blocks(fit):
        members = block["member_index"].to_numpy()
        grouped = {name: np.moveaxis(error[:, members], 1, 0) for name, error in errors.items()}
        summary = _summary(grouped, np.moveaxis(evolution[:, members], 1, 0), over="group")
        children[f"/groups/{block.attrs['path']}"] = summary.assign_coords(coords)
    if loss is not None:
        figures = loss_figures(loss, params, weights, trajectory, t2, leads, metric=metric, smooth=smooth)
        children["/loss"] = figures.assign_coords(coords)
    tree = xr.DataTree.from_dict(children)
    tree.attrs = {**_describe(fit, leads, errors["fit"]), "dropped": drop or ""}
    return tree


def _describe(fit: xr.DataTree, leads: npt.NDArray[np.int64], error: Floats) -> dict[str, Any]:
    kept = ("partition", "method", "t1", "t2", "lag", "blocks", "tensors", "source")
    return {
        "koopscope_result": "verification",
        **{name: fit.attrs[name] for name in kept},
        "diverged": leads[~np.isfinite(error).all(axis=1)].tolist(),
    }


def _require_same_tensors(weights: WeightVector, trajectory: xr.Dataset) -> None:
    names = [slot.name for slot in weights.tensors]
    found = [slot.name for slot in WeightVector.of(trajectory).tensors]
    if names != found:
        raise ResultError(
            f"the fit was made on the tensors {', '.join(names)}; the recording holds {', '.join(found)}; "
            "verify with the recording that was fitted"
        )
    for slot in weights.tensors:
        shape = trajectory[slot.name].shape[1:]
        if shape != slot.shape:
            raise ResultError(
                f"the fit was made with {slot.name} of shape {slot.shape}, in the recording it has {shape}; "
                "verify with the recording that was fitted"
            )


def _require_same_run(fit: xr.DataTree, start: Floats) -> None:
    for block in fitted_blocks(fit):
        if not np.array_equal(block["last"].to_numpy(), start[block["member_index"].to_numpy()]):
            raise ResultError(
                f"the recording's weights at t2={fit.attrs['t2']} are not those that were fitted; "
                f"verify with the recording that was fitted ({fit.attrs['source']})"
            )


def _recorded_leads(
    steps: npt.NDArray[np.int64], t2: int, lead: int | Sequence[int] | npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    if t2 not in steps:
        raise ResultError(f"the recording has no step {t2}, where the fit ends; it is not the one fitted")
    if steps[-1] <= t2:
        raise WindowError(f"the recording ends at t2={t2}: nothing to verify against; fit with a smaller t2")
    if lead is None:
        return np.array([int(steps[-1]) - t2])
    leads = check_leads(lead)
    missing = leads[~np.isin(t2 + leads, steps)]
    if missing.size:
        recorded = steps[steps > t2] - t2
        nearest = int(recorded[np.argmin(np.abs(recorded - missing[0]))])
        raise WindowError(
            f"lead={missing[0]} is step {t2 + missing[0]}, which is not recorded; the nearest recorded lead "
            f"is {nearest}, the largest {int(recorded[-1])}"
        )
    return leads


def _flat_rows(trajectory: xr.Dataset, weights: WeightVector, rows: npt.NDArray[np.intp]) -> Floats:
    columns = [
        np.asarray(trajectory[slot.name].variable[rows].values, np.float64).reshape(rows.size, slot.size)
        for slot in weights.tensors
    ]
    flat = np.concatenate(columns, axis=1)
    if not np.isfinite(flat).all():
        row, column = np.argwhere(~np.isfinite(flat))[0]
        name, position = weights.locate(int(column))
        step = int(trajectory["step"].to_numpy()[rows[row]])
        raise NonFiniteError(
            f"{name}{list(position)} is {flat[row, column]} at step {step}; choose an earlier lead"
        )
    return flat


def _flat_forecast(forecast: xr.Dataset, weights: WeightVector) -> Floats:
    n_leads = forecast.sizes["lead"]
    columns = [forecast[slot.name].to_numpy().reshape(n_leads, slot.size) for slot in weights.tensors]
    return np.concatenate(columns, axis=1)


def _flat_baselines(
    fit: xr.DataTree, weights: WeightVector, leads: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    flat: dict[str, Floats] = {}
    for block in fitted_blocks(fit):
        start = block["origin"].to_numpy() - block["last"].to_numpy()
        offset = float(fit.attrs["origin_offset"])
        moves = baseline_displacements(start, block["slope"].to_numpy(), leads, origin_offset=offset)
        for name, move in moves.items():
            columns = flat.setdefault(name, np.empty((leads.size, weights.size)))
            columns[:, block["member_index"].to_numpy()] = move
    return flat


def _summary(errors: Mapping[str, Floats], evolution: Floats, over: str | None = None) -> xr.Dataset:
    """Figures over the last axis; leading axes are ``(over, lead)`` or ``(lead,)``."""
    dims = ("lead",) if over is None else (over, "lead")
    per_forecast = list(errors.values())
    data = {
        "relative_l2": np.stack([relative_l2(error, evolution) for error in per_forecast], axis=-1),
        "error_to_evolution": np.stack(
            [error_to_evolution(error, evolution) for error in per_forecast], axis=-1
        ),
    }
    variables: dict[str, Any] = {name: ((*dims, "forecast"), values) for name, values in data.items()}
    for name in [name for name in errors if name not in ("fit", "filtered")]:
        variables[f"skill_{name}"] = (dims, skill(errors["fit"], errors[name]))
    variables["moved"] = (dims, moved_count(evolution))
    return check(xr.Dataset(variables, coords={"forecast": np.array(list(errors), dtype=object)}))


def _layer_summaries(errors: Mapping[str, Floats], evolution: Floats, weights: WeightVector) -> xr.Dataset:
    layers = []
    for tensors in weights.layers.values():
        columns = np.concatenate([weights.flat_indices(index).ravel() for index in tensors])
        layers.append(_summary({name: e[:, columns] for name, e in errors.items()}, evolution[:, columns]))
    return xr.concat(layers, dim=xr.Variable(("layer",), np.array(list(weights.layers), dtype=object)))


def _by_tensor(flat: Floats, weights: WeightVector, coords: Mapping[str, Any]) -> xr.Dataset:
    leading = ("lead",) if flat.ndim == 2 else ()
    pieces = weights.split(flat)
    variables = {slot.name: ((*leading, *slot.dims), pieces[slot.name]) for slot in weights.tensors}
    return xr.Dataset(variables, coords=coords)
