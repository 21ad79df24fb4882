"""Eigenvalues of a fit in one long table, in units of training steps."""

from __future__ import annotations

import numpy as np
import xarray as xr

from koopscope.errors import ResultError
from koopscope.fit_tree import fitted_blocks, require_kind
from koopscope.variables import check


def spectrum(fit: xr.DataTree) -> xr.Dataset:
    """List every eigenvalue of a fit with what it means in training steps.

    Per lag, ``lambda`` is an eigenvalue of the operator. Per step, ``lambda ** (1 / lag)`` (principal
    root), ``growth_rate = log|lambda| / lag``, ``frequency = arg(lambda) / (2 pi lag)``; frequencies are
    known only up to multiples of ``1 / lag``. The offset of an affine fit, an eigenvalue of exactly one,
    is carried apart and not listed.

    Parameters
    ----------
    fit
        Result of `koopscope.fit`.

    Returns
    -------
    xr.Dataset
        Dim ``eigenvalue``; coords ``layer``, ``path``, ``group``, ``mode``; variables ``eigenvalue``,
        ``eigenvalue_per_step``, ``modulus``, ``growth_rate``, ``frequency``, ``e_folding_time``,
        ``residual``, ``amplitude``.

    Raises
    ------
    ResultError
        If ``fit`` is not a fit.

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
    }
    coords = {name: ("eigenvalue", joined[name]) for name in ("layer", "path", "group", "mode")}
    attrs = {
        "koopscope_result": "spectrum",
        **{name: fit.attrs[name] for name in ("partition", "method", "t1", "t2", "lag", "spacing", "delays")},
    }
    table = xr.Dataset({name: ("eigenvalue", values) for name, values in columns.items()}, coords, attrs)
    return check(table)


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
