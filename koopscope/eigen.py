"""Eigenvalues of fitted operators, and how far each can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.kernels.mode_figures import mode_figures
from koopscope.kernels.small_modes import LARGEST, small_modes
from koopscope.operators import MANY_GROUPS, Floats, Operators, in_batches

Complex = npt.NDArray[np.complex128]

KERNEL_STATES = 32  # more deserve matrix products
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
    n_groups, n_states = operators.operator.shape[:2]
    many = n_groups >= MANY_GROUPS
    return in_batches(lambda part: _decompose(operators.cut(part), many=many), n_groups, n_states)


def _decompose(operators: Operators, *, many: bool) -> Modes:
    """Compute the modes of a batch, within the kept directions where the operators act on no others."""
    acting, inside = operators.operator, operators.directions
    if inside is not None:
        acting = np.ascontiguousarray(inside.swapaxes(1, 2)) @ acting @ inside
    n_groups, width = acting.shape[:2]
    ranks = np.full(n_groups, width) if inside is None else operators.rank
    parts, residual, amplitude = (
        np.full(shape, np.nan) for shape in ((2, n_groups, width), (n_groups, width), (n_groups, width))
    )
    found = np.zeros(n_groups, bool)
    if many and operators.basis is None and width <= LARGEST:
        if inside is None:
            inside = np.broadcast_to(np.eye(width), acting.shape)
        # Eigenvectors have unit length, so that the share of a mode is its amplitude.
        found = small_modes(
            np.ascontiguousarray(acting),
            np.ascontiguousarray(ranks),
            np.ascontiguousarray(inside),
            np.ascontiguousarray(operators.pairs_now),
            np.ascontiguousarray(operators.pairs_next),
            np.ascontiguousarray(operators.drift),
            np.ascontiguousarray(operators.displacement),
            parts,
            residual,
            amplitude,
        )
    values = parts[0] + 1j * parts[1]
    left = ~found & (ranks > 0) & np.isfinite(acting).all(axis=(1, 2))
    for size in np.unique(ranks[left]):
        groups = np.flatnonzero(left & (ranks == size))
        some = _by_lapack(operators, groups, acting[groups, :size, :size])
        values[groups, :size], residual[groups, :size], amplitude[groups, :size] = some
    real = np.arange(width) < operators.rank[:, None]
    return Modes(*(np.where(real, part, np.nan) for part in (values, residual, amplitude)))


def _by_lapack(
    operators: Operators, groups: npt.NDArray[np.int64], acting: Floats
) -> tuple[Complex, Floats, Floats]:
    """Eigenvalues, residuals and amplitudes of some groups, given their operators within the directions."""
    values, right = np.linalg.eig(acting)
    values, right = values.astype(np.complex128), right.astype(np.complex128)
    residual, share = _figures(operators, groups, values, _inverse(right))  # rows are left eigenvectors
    amplitude = share * _lengths(operators.basis, groups, right)
    # Stable: LAPACK gives conjugates side by side, which are of the same size to the last digit.
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    values, residual, amplitude = (
        np.take_along_axis(part, order, axis=1) for part in (values, residual, amplitude)
    )
    return values, residual, amplitude


def _lengths(basis: Floats | None, groups: npt.NDArray[np.int64], right: Complex) -> Floats:
    """Lengths of eigenvectors in units of the weights, shape ``(group, mode)``."""
    if basis is None:
        return np.asarray(np.linalg.norm(right, axis=1))
    d = basis.shape[1]
    squares = np.zeros((groups.size, right.shape[2]))
    for start in range(0, d, WEIGHTS_PER_TILE):  # a lifted mode is complex: twice the basis
        lifted = basis[groups, start : start + WEIGHTS_PER_TILE] @ right
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
        if len(vectors) == 1:
            return np.asarray(np.linalg.pinv(vectors))
        return np.concatenate([_inverse(alone[None]) for alone in vectors])


def _figures(
    operators: Operators, groups: npt.NDArray[np.int64], values: Complex, left: Complex
) -> tuple[Floats, Floats]:
    """Residuals of eigenfunctions, and how much of each is in the first lag, shape ``(group, mode)``."""
    if operators.directions is not None:  # to eigenfunctions of the weights themselves
        left = left @ operators.directions[groups, :, : left.shape[2]].swapaxes(1, 2)
    now = np.ascontiguousarray(operators.pairs_now[groups])
    following = np.ascontiguousarray(operators.pairs_next[groups])
    drift, displacement = operators.drift[groups], operators.displacement[groups]
    if left.shape[2] <= KERNEL_STATES:
        return mode_figures(left, values, now, following, drift, displacement)
    share = np.abs(np.einsum("gms,gs->gm", left, displacement))
    starts, ends = left @ now.swapaxes(1, 2), left @ following.swapaxes(1, 2)
    error = np.linalg.norm(ends - values[:, :, None] * starts, axis=2)
    drifted = np.abs(np.einsum("gms,gs->gm", left, drift))
    movement = np.hypot(np.linalg.norm(ends - starts, axis=2), drifted)
    return np.where(movement > 0, error / np.where(movement > 0, movement, 1.0), 0.0), share
