"""Reading a Fit: the blocks of a fitted tree in the order of the partition, and what its root says."""

from __future__ import annotations

import xarray as xr

from koopscope.errors import ResultError
from koopscope.weight_vector import WeightVector


def require_kind(tree: object, kind: str) -> xr.DataTree:
    """Check that a value is a koopscope result tree of the given kind.

    Raises
    ------
    ResultError
        If it is something else; the message names the function that makes the right kind.
    """
    makers = {"fit": "koopscope.fit", "verification": "koopscope.verify"}
    found = tree.attrs.get("koopscope_result") if isinstance(tree, xr.DataTree) else None
    if not isinstance(tree, xr.DataTree) or found != kind:
        what = f"a {found} result" if found else f"a {type(tree).__name__}"
        raise ResultError(f"expected a {kind}, got {what}; {makers[kind]}(...) makes one")
    return tree


def fitted_blocks(fit: xr.DataTree) -> list[xr.Dataset]:
    """List the blocks of a fit in the order of its partition."""
    return [fit[path].to_dataset() for path in fit.attrs["blocks"]]


def fitted_weights(fit: xr.DataTree) -> WeightVector:
    """Rebuild the flat order of the weights that a fit was made on."""
    return WeightVector.from_attrs(fit.attrs["tensors"])
