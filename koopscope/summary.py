"""Results in plain Python values: what tables print, summary.json keeps and pages show."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

from koopscope.verdicts import ILL_CONDITIONED, forecast_verdict

if TYPE_CHECKING:
    import xarray as xr

_SETTINGS = (
    *("partition", "method", "t1", "t2", "lag", "spacing", "delays", "average", "rtol", "rank"),
    "versions",
)
_CROSSING = ("network", "labels", "correlated")  # partitions whose groups hold weights of several layers
_FIGURES = ("error_to_evolution", "relative_l2")
_SKILLS = ("skill_hold", "skill_linear")


def describe_fit(fit: xr.DataTree) -> dict[str, Any]:
    """Summarise a fit: settings, and groups, weights and spectral radius per layer and in all.

    Where groups cross layers, the layers' own ``groups`` and ``spectral_radius`` are None.
    """
    blocks: list[Any] = [fit[path] for path in fit.attrs["blocks"]]
    crossing = fit.attrs["partition"].partition(":")[0] in _CROSSING
    layers = []
    for layer, weights in _weights_by_layer(fit).items():
        own = [] if crossing else [block for block in blocks if block.attrs["layer"] == layer]
        layers.append(
            {
                "layer": layer,
                "groups": None if crossing else _groups(own),
                "weights": weights,
                "spectral_radius": _spectral_radius(own),
            }
        )
    ill = sum(int((block["condition"] > ILL_CONDITIONED).sum()) for block in blocks)
    return {
        **{name: fit.attrs[name] for name in _SETTINGS},
        "groups": _groups(blocks),
        "weights": sum(layer["weights"] for layer in layers),
        "spectral_radius": _spectral_radius(blocks),
        "ill_conditioned_share": ill / _groups(blocks),
        "layers": layers,
    }


def describe_verification(verification: xr.DataTree, lead: int) -> dict[str, Any]:
    """Summarise a verification at one lead: figures and verdict, per layer and for the network."""
    by_layer = verification["layers"].to_dataset().sel(lead=lead)
    sizes = _weights_by_layer(verification)
    layers = [
        {"layer": layer, **_figures(by_layer.sel(layer=layer), weights)} for layer, weights in sizes.items()
    ]
    return {
        "lead": lead,
        **_figures(verification.to_dataset().sel(lead=lead), sum(sizes.values())),
        "diverged": lead in verification.attrs["diverged"],
        "filtered": _filtered(verification.to_dataset().sel(lead=lead)),
        "layers": layers,
    }


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write strict JSON: what is not finite becomes null.

    >>> to_json({"skill": float("nan"), "layers": [{"error": float("inf")}], "lead": 5})
    '{"skill": null, "layers": [{"error": null}], "lead": 5}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, complex):
        return [_finite(value.real), _finite(value.imag)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _figures(at_lead: xr.Dataset, weights: int) -> dict[str, Any]:
    figures: dict[str, Any] = {name: float(at_lead[name].sel(forecast="fit")) for name in _FIGURES}
    figures |= {name: float(at_lead[name]) for name in _SKILLS}
    # Holding the last mean is a baseline only where rows are averaged.
    figures["skill_mean"] = float(at_lead["skill_mean"]) if "skill_mean" in at_lead else None
    figures["moved"] = int(at_lead["moved"])
    return {**figures, "verdict": forecast_verdict(figures, weights)}


def _filtered(at_lead: xr.Dataset) -> dict[str, float] | None:
    if "filtered" not in at_lead["forecast"].values:
        return None
    return {name: float(at_lead[name].sel(forecast="filtered")) for name in _FIGURES}


def _weights_by_layer(tree: xr.DataTree) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in tree.attrs["tensors"]:
        sizes[tensor["layer"]] = sizes.get(tensor["layer"], 0) + math.prod(tensor["shape"])
    return sizes


def _groups(blocks: list[Any]) -> int:
    return sum(int(block.sizes["group"]) for block in blocks)


def _spectral_radius(blocks: list[Any]) -> float | None:
    """Largest modulus per lag; None where nothing moved, so that there is no eigenvalue."""
    radius = max((float(abs(block["eigenvalue"]).fillna(-1.0).max()) for block in blocks), default=-1.0)
    return radius if radius >= 0 else None
