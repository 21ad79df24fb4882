"""Other ways than least squares to fit a linear map to pairs, all on the reduced coordinates of the pairs.

Pairs come as ``now`` and ``following``, centred, shape ``(group, pair, state)``, in the singular directions
of ``now``; columns past a group's rank are zero. Rows may be rotated (an R factor): inner products are all
that is used. Each estimator returns ``K`` of shape ``(group, state, state)`` with ``following ~ now K^T``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg

from koopscope.operators.model import Floats


class Estimator(Protocol):
    """Pairs, which directions they were kept in, and a tolerance, to an operator."""

    def __call__(  # noqa: D102
        self, now: Floats, following: Floats, kept: npt.NDArray[np.bool_], rtol: float
    ) -> Floats: ...


def ridge(now: Floats, following: Floats, kept: npt.NDArray[np.bool_], rtol: float) -> Floats:
    """Penalise large operators: ``K^T = (X^T X + p I)^-1 X^T Y`` with ``p = (rtol s_1)^2``.

    A soft truncation: directions far below ``rtol`` times the largest singular value fade out instead of
    being cut. Right where singular values fall without a gap, so that no cut is natural, as on runs of Adam.

    Notes
    -----
    Hoerl & Kennard, "Ridge regression", Technometrics 1970, https://doi.org/10.1080/00401706.1970.10488634.
    """
    squares = np.sum(now * now, axis=1)  # columns are orthogonal: the diagonal is the whole Gram matrix
    penalised = squares + (rtol * rtol) * squares.max(axis=1, keepdims=True)
    inverse = np.where(kept, 1.0 / np.where(penalised > 0, penalised, 1.0), 0.0)
    return np.asarray((following.swapaxes(1, 2) @ now) * inverse[:, None, :])


def total_least_squares(now: Floats, following: Floats, kept: npt.NDArray[np.bool_], rtol: float) -> Floats:
    """Allow for errors in both members of a pair: project both on their joint leading directions first.

    With ``[X, Y] = A S B^T`` and A cut at the rank, ``K^T = (A^T X)^+ A^T Y``. Right for weights recorded
    with rounding or quantisation noise that least squares would read as decay. Minibatch noise drives
    the run itself, and there this estimator is no better.

    Notes
    -----
    Hemati, Rowley, Deem & Cattafesta, "De-biasing the dynamic mode decomposition for applied Koopman
    spectral analysis of noisy datasets", Theor. Comput. Fluid Dyn. 2017,
    https://doi.org/10.1007/s00162-017-0432-2.
    """
    return _by_rank(_total_least_squares, now, following, kept)


def forward_backward(now: Floats, following: Floats, kept: npt.NDArray[np.bool_], rtol: float) -> Floats:
    """Average the maps forwards and backwards in time: ``K = (K_f K_b^-1)^(1/2)``, the principal root.

    Noise makes modes seem to decay in either direction, and the mean cancels that. Right for recording
    noise, as total least squares; wrong where the run alternates, since the principal root has no
    eigenvalue with a negative real part.

    Notes
    -----
    Dawson, Hemati, Williams & Rowley, "Characterizing and correcting for the effect of sensor noise in
    the dynamic mode decomposition", Exp. Fluids 2016, https://doi.org/10.1007/s00348-016-2127-7.
    """
    return _by_rank(_forward_backward, now, following, kept)


ESTIMATORS: dict[str, Estimator] = {"ridge": ridge, "tls": total_least_squares, "fb": forward_backward}


def _by_rank(
    estimate: Callable[[Floats, Floats], Floats],
    now: Floats,
    following: Floats,
    kept: npt.NDArray[np.bool_],
) -> Floats:
    """Estimate all groups of one rank together: empty directions would be taken for data."""
    ranks = kept.sum(axis=1)
    operators = np.zeros((now.shape[0], now.shape[2], now.shape[2]))
    for rank in np.unique(ranks[ranks > 0]):
        groups = np.flatnonzero(ranks == rank)
        operators[groups, :rank, :rank] = estimate(now[groups, :, :rank], following[groups, :, :rank])
    return operators


def _total_least_squares(now: Floats, following: Floats) -> Floats:
    rank = now.shape[2]
    joint = np.linalg.svd(np.concatenate([now, following], axis=2), full_matrices=False)[0][:, :, :rank]
    projected = joint.swapaxes(1, 2)
    return np.asarray((np.linalg.pinv(projected @ now) @ (projected @ following)).swapaxes(1, 2))


def _forward_backward(now: Floats, following: Floats) -> Floats:
    forwards = np.linalg.pinv(now) @ following
    backwards = np.linalg.pinv(following) @ now
    squared = forwards @ np.linalg.pinv(backwards)
    roots = [np.real(scipy.linalg.sqrtm(matrix)) for matrix in squared]
    return np.stack(roots).swapaxes(1, 2)
