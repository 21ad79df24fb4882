"""Eigenvalues of fitted operators, and how far each can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats, Operators, in_batches

Complex = npt.NDArray[np.complex128]

WEIGHTS_PER_TILE = 2**15  # of a group whose modes are lifted at a time


@dataclass(frozen=True)
class Modes:
    """Eigenvalues of a block of operators, largest modulus first, conjugate pairs side by side.

    Attributes
    ----------
    eigenvalue
        Per lag, shape ``(group, mode)``; NaN past a group's rank.
    residual
        One-lag error of the mode's eigenfunction relative to how far that eigenfunction moves in one lag:
        ``|psi(w(t+lag)) - lambda psi(w(t))| / |psi(w(t+lag)) - psi(w(t))|`` over the window. Measured
        against the movement, since against the weights' own size everything would pass.
    amplitude
        Length, in units of the weights, of the mode's share of the forecast's first lag.
    """

    eigenvalue: Complex
    residual: Floats
    amplitude: Floats


def decompose(operators: Operators) -> Modes:
    """Compute the modes of every group of a block.

    Residuals use left eigenvectors (they are the linear Koopman eigenfunctions), amplitudes the right
    ones; see Colbrook & Townsend, "Rigorous data-driven computation of spectral properties of Koopman
    operators for dynamical systems", Commun. Pure Appl. Math. 2024, https://doi.org/10.1002/cpa.22125.

    A mixture has the modes of its members, each with its share of the amplitude.
    """
    if operators.members:
        return _joined([decompose(member) for member in operators.members])
    return in_batches(lambda part: _decompose(operators.cut(part)), operators.operator.shape[0])


def _decompose(operators: Operators) -> Modes:
    finite = np.asarray(np.isfinite(operators.operator).all(axis=(1, 2)))
    safe = np.where(finite[:, None, None], operators.operator, 0.0)
    values, right = np.linalg.eig(safe)
    order = np.lexsort((-values.imag, -np.abs(values)), axis=-1)
    values = np.take_along_axis(values, order, axis=1).astype(np.complex128)
    right = np.take_along_axis(right, order[:, None, :], axis=2).astype(np.complex128)
    left = _inverse(right)  # rows are left eigenvectors
    residual = _residuals(operators, values, left)
    share = np.einsum("gms,gs->gm", left, operators.displacement)
    amplitude = np.abs(share) * _lengths(operators.basis, right)
    real = np.arange(values.shape[1]) < operators.rank[:, None]
    real &= finite[:, None]
    return Modes(
        eigenvalue=np.where(real, values, np.nan),
        residual=np.where(real, residual, np.nan),
        amplitude=np.where(real, amplitude, np.nan),
    )


def _lengths(basis: Floats | None, right: Complex) -> Floats:
    """Lengths of eigenvectors in units of the weights, shape ``(group, mode)``."""
    if basis is None:
        return np.asarray(np.linalg.norm(right, axis=1))
    d = basis.shape[1]
    squares = np.zeros((basis.shape[0], right.shape[2]))
    for start in range(0, d, WEIGHTS_PER_TILE):  # a lifted mode is complex: twice the basis
        lifted = basis[:, start : start + WEIGHTS_PER_TILE] @ right
        squares += np.sum(lifted.real**2 + lifted.imag**2, axis=1)
    return np.sqrt(squares)


def _joined(members: Sequence[Modes]) -> Modes:
    values = np.concatenate([member.eigenvalue for member in members], axis=1)
    # NaN, past a member's rank, sorts last; pairs of one member stay side by side.
    order = np.argsort(-np.abs(values), axis=1, kind="stable")

    def together(name: str, share: float = 1.0) -> Floats:
        joined = np.concatenate([getattr(member, name) for member in members], axis=1)
        return np.take_along_axis(joined, order, axis=1) * share

    return Modes(
        eigenvalue=np.take_along_axis(values, order, axis=1),
        residual=together("residual"),
        amplitude=together("amplitude", 1.0 / len(members)),
    )


def _inverse(vectors: Complex) -> Complex:
    try:
        return np.asarray(np.linalg.inv(vectors))
    except np.linalg.LinAlgError:  # defective operators have no full set of eigenvectors
        return np.asarray(np.linalg.pinv(vectors))


def _residuals(operators: Operators, values: Complex, left: Complex) -> Floats:
    now = left @ operators.pairs_now.swapaxes(1, 2)
    following = left @ operators.pairs_next.swapaxes(1, 2)
    error = np.linalg.norm(following - values[:, :, None] * now, axis=2)
    drift = np.abs(np.einsum("gms,gs->gm", left, operators.drift))
    movement = np.hypot(np.linalg.norm(following - now, axis=2), drift)
    return np.where(movement > 0, error / np.where(movement > 0, movement, 1.0), 0.0)
