"""Which weights can go: those whose predicted end point is small, beside those that are small now."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import NonFiniteError, UsageError
from koopscope.fit_tree import fitted_blocks, fitted_weights, require_kind
from koopscope.loss import checked_loss, evaluate_loss
from koopscope.metrics import Floats
from koopscope.verification import LossFunction
from koopscope.weight_vector import WeightVector

CRITERIA = ("end_point", "magnitude")


def end_point(fit: xr.DataTree) -> xr.Dataset:
    """Say where the weights would end: the mode of eigenvalue 1, with amplitude and sign.

    Every mode that decays within the window is followed to its end and every other one is held at t2:
    ``w* = w(t2) + sum_j v_j c_j / (1 - lambda_j)`` over modes with an e-folding time below ``t2 - t1``, with
    ``c_j`` the mode's share of the forecast's first lag. A slower mode cannot be told from 1 in that window.
    For ``method="paper"`` this is the projection of w(t2) on the modes at 1.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.

    Returns
    -------
    xr.Dataset
        One variable a tensor, in the tensor's own shape.

    Raises
    ------
    ResultError
        If ``fit`` is not a fit.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run(drift=0)
    >>> found = koopscope.end_point(koopscope.fit(run, "node", t2=400, lag=10))
    >>> bool(abs(found["fc1.weight"] - run["fc1.weight"][-1]).max() < 1e-3)
    True
    """
    weights = fitted_weights(require_kind(fit, "fit"))
    variables = {
        slot.name: (slot.dims, array)
        for slot, array in zip(weights.tensors, weights.split(_flat_end(fit, weights)).values(), strict=True)
    }
    attrs = {
        "koopscope_result": "end_point",
        **{name: fit.attrs[name] for name in ("partition", "method", "t2")},
    }
    return xr.Dataset(variables, attrs=attrs)


def prune(
    fit: xr.DataTree,
    fraction: float,
    *,
    scope: Literal["network", "layer"] = "network",
    biases: bool = False,
    loss: LossFunction | None = None,
    trajectory: xr.Dataset | None = None,
) -> xr.Dataset:
    """Mask the smallest weights, by their predicted end point and by their magnitude at t2.

    ``end_point`` removes the weights with the least ``|w*|`` (see `end_point`), after Koopman magnitude
    pruning; ``magnitude`` those with the least ``|w(t2)|``, to compare with.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.
    fraction
        Share of the weights to remove, of those that may go.
    scope
        Rank the weights of the ``"network"`` together, or of each ``"layer"`` alone.
    biases
        Whether tensors of fewer than two axes (biases, norms) may lose weights too.
    loss
        Callable on a mapping of tensor names to arrays; adds the loss at w(t2) before and after.
    trajectory
        The recording of the fit; then a loss that disagrees with the recorded one is refused.

    Returns
    -------
    xr.Dataset
        One boolean variable a tensor, dims ``(criterion, ...)`` with the tensor's own dims, True where a
        weight stays; ``criterion`` is ``end_point`` or ``magnitude``. Attributes: ``removed``, their number,
        ``common``, how many of them both remove, and, with a loss, ``loss_at_t2`` and ``loss_pruned``.

    Raises
    ------
    UsageError
        If ``fraction`` or ``scope`` cannot be used, or no tensor may lose weights.
    NonFiniteError
        If an end point is not finite.
    LossError
        If the loss fails, or is not the recorded one.

    References
    ----------
    Redman et al., "An Operator Theoretic View on Pruning Deep Neural Networks", ICLR 2022,
    https://doi.org/10.48550/arXiv.2110.14856.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> masks = koopscope.prune(koopscope.fit(linear_run(), "node", t2=800), 0.25)
    >>> masks["fc1.weight"].dims, masks.attrs["removed"]
    (('criterion', 'fc1.weight.out', 'fc1.weight.in'), 5)
    """
    require_kind(fit, "fit")
    if not 0 <= fraction < 1:
        raise UsageError(f"fraction is the share of weights to remove, in [0, 1); got {fraction}")
    if scope not in ("network", "layer"):
        raise UsageError(f"scope must be 'network' or 'layer', got {scope!r}")
    weights = fitted_weights(fit)
    last = _flat(fit, weights, "last")
    scores = np.abs([_flat_end(fit, weights), last])
    if not np.isfinite(scores).all():
        count = np.count_nonzero(~np.isfinite(scores[0]))
        raise NonFiniteError(
            f"the end points of {count} weights are not finite; use another method or window"
        )
    kept = np.ones(scores.shape, bool)
    for candidates in _candidates(weights, scope, biases):
        leaving = int(fraction * candidates.size + 0.5)
        smallest = np.argsort(scores[:, candidates], axis=1, kind="stable")[:, :leaving]
        kept[np.arange(len(CRITERIA))[:, None], candidates[smallest]] = False
    variables = {
        slot.name: (("criterion", *slot.dims), array)
        for slot, array in zip(weights.tensors, weights.split(kept).values(), strict=True)
    }
    attrs: dict[str, Any] = {
        "koopscope_result": "masks",
        **{name: fit.attrs[name] for name in ("partition", "method", "t1", "t2")},
        **{"fraction": fraction, "scope": scope, "biases": biases},
        "weights": weights.size,
        "removed": int(np.count_nonzero(~kept[0])),
        "common": int(np.count_nonzero(~kept.any(axis=0))),
    }
    if loss is not None:
        attrs["loss_at_t2"] = checked_loss(loss, weights, last, trajectory, int(fit.attrs["t2"]))
        pruned = [evaluate_loss(loss, weights, last * mask) for mask in kept]
        attrs["loss_pruned"] = dict(zip(CRITERIA, pruned, strict=True))
    return xr.Dataset(variables, {"criterion": list(CRITERIA)}, attrs)


def _flat(fit: xr.DataTree, weights: WeightVector, name: str) -> Floats:
    flat = np.empty(weights.size)
    for block in fitted_blocks(fit):
        flat[block["member_index"].to_numpy()] = block[name].to_numpy()
    return flat


def _flat_end(fit: xr.DataTree, weights: WeightVector) -> Floats:
    span = float(fit.attrs["t2"]) - float(fit.attrs["t1"])
    slowest = np.exp(-float(fit.attrs["lag"]) / span)
    flat = np.empty(weights.size)
    for block in fitted_blocks(fit):
        moved = _remaining(block["operator"].to_numpy(), block["displacement"].to_numpy(), slowest)
        if "basis" in block:
            moved = np.einsum("gms,gs->gm", block["basis"].to_numpy(), moved)
        flat[block["member_index"].to_numpy()] = block["origin"].to_numpy() + moved
    return flat


def _remaining(operator: Floats, displacement: Floats, slowest: float) -> Floats:
    """Way of the state from t2 to the end of all modes below ``slowest``; shape ``(group, state)``."""
    finite = np.asarray(np.isfinite(operator).all(axis=(1, 2)) & np.isfinite(displacement).all(axis=1))
    values, right = np.linalg.eig(np.where(finite[:, None, None], operator, 0.0))
    share = np.einsum("gms,gs->gm", np.linalg.pinv(right), np.where(finite[:, None], displacement, 0.0))
    ending = np.abs(values) < slowest
    total = np.where(ending, share / np.where(ending, 1 - values, 1.0), 0.0)
    moved = np.einsum("gsm,gm->gs", right, total).real
    return np.where(finite[:, None], moved, np.nan)


def _candidates(weights: WeightVector, scope: str, biases: bool) -> list[npt.NDArray[np.int64]]:
    """List the flat indices of weights that are ranked against each other."""
    by_layer: dict[str, list[npt.NDArray[np.int64]]] = {}
    for tensor, slot in enumerate(weights.tensors):
        if biases or len(slot.shape) >= 2:
            place = "network" if scope == "network" else slot.layer
            by_layer.setdefault(place, []).append(weights.flat_indices(tensor).ravel())
    if not by_layer:
        raise UsageError("no tensor has two axes or more, and biases stay; biases=True lets them go")
    return [np.concatenate(pieces) for pieces in by_layer.values()]
