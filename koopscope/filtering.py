"""Forecasts without the modes that oscillate: what an operator says once they are dropped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError

Floats = npt.NDArray[np.float64]

OSCILLATING = "oscillating"
FILTERS = (OSCILLATING,)
FLIPPING = 0.75 * np.pi  # argument of an eigenvalue from which a mode all but flips its sign every lag


def check_drop(drop: str | None) -> None:
    """Check the name of a filter.

    Raises
    ------
    UsageError
        If there is no such filter.
    """
    if drop is not None and drop not in FILTERS:
        raise UsageError(f"drop must be None or one of {', '.join(FILTERS)}; got {drop!r}")


def filtered_maps(block: xr.Dataset) -> tuple[Floats, Floats, Floats]:
    """Drop the oscillating modes of the operators of one block.

    The forecast of a mode with eigenvalue l and first displacement c is ``c (1 - l^m) / (1 - l)``: it swings
    about ``c / (1 - l)``. With the projector P on the modes within 45 degrees of the negative real axis, the
    swinging part ``l^m`` is taken away: ``z(0) = (I - A)^-1 P v``, and from there on
    ``z(m+1) = A (I - P) z(m) + (I - P) v`` beside it.

    Parameters
    ----------
    block
        A block of a fit.

    Returns
    -------
    operator, displacement, start
        Shapes ``(group, state, state)``, ``(group, state)`` and ``(group, state)``: the maps of what is kept,
        and the constant change of state that leads from w(t2) to the middle of its oscillation.
    """
    operator, displacement = block["operator"].to_numpy(), block["displacement"].to_numpy()
    finite = np.isfinite(operator).all(axis=(1, 2)) & np.isfinite(displacement).all(axis=1)
    values, right = np.linalg.eig(np.where(finite[:, None, None], operator, 0.0))
    dropped = (np.abs(np.angle(values)) >= FLIPPING) & (values != 0)
    left = np.linalg.pinv(right)
    share = np.einsum("gms,gs->gm", left, np.where(finite[:, None], displacement, 0.0))
    middle = np.where(dropped, share / np.where(dropped, 1.0 - values, 1.0), 0.0)
    start = np.einsum("gsm,gm->gs", right, middle).real
    projector = ((right * dropped[:, None, :]) @ left).real
    kept = np.eye(operator.shape[1]) - projector
    with np.errstate(invalid="ignore", over="ignore"):
        return operator @ kept, np.einsum("gij,gj->gi", kept, displacement), start
