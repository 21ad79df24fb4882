"""Affine fits of many windows of one recording at once, from slices of its increment Gram matrix alone.

A window of m lags is a block of m by m inner products of increments. Everything a window is judged by (its
eigenvalues, its errors on the quarter held out, its fixed point) is small dense algebra on that block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from koopscope.operators import Floats, GramModes

Complex = npt.NDArray[np.complex128]

LARGEST_RANK = 6
HELD_OUT = 0.25  # the last quarter of a window judges what is fitted on the rest
GOOD_ENOUGH = 1.05  # a rank is taken if its hindcast is within this factor of the best rank's
REACH_FLOOR = 1e-6  # of a window's excursion: a Gram matrix knows nothing below
_SINGULAR = 1e-12


@dataclass(frozen=True)
class WindowFits:
    """What was found in each window; arrays of shape ``(window,)`` unless said otherwise.

    Attributes
    ----------
    one_step, hindcast, linear
        Errors on the held-out quarter relative to what moved there: of single lags, of the forecast from
        the start of the quarter, and of the straight line from there. Zero where all that moved, or all
        that was missed, is within the floor.
    rank
        Directions kept, chosen by hindcast.
    eigenvalue
        Of the operator fitted on the whole window, per lag, shape ``(window, mode)``; NaN past the rank.
    still
        The window moved no farther than the recording's own rounding.
    fixed_point
        Where the fit comes to rest, from the window's last snapshot: weights of its increments, shape
        ``(window, m)``.
    """

    one_step: Floats
    hindcast: Floats
    linear: Floats
    rank: npt.NDArray[np.int64]
    eigenvalue: Complex
    still: npt.NDArray[np.bool_]
    fixed_point: Floats

    @property
    def spectral_radius(self) -> Floats:
        """Largest modulus, shape ``(window,)``; zero where nothing moved."""
        return np.asarray(np.max(np.nan_to_num(np.abs(self.eigenvalue)), axis=1))

    @classmethod
    def joined(cls, parts: Sequence[WindowFits]) -> WindowFits:
        """Put windows one after another."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def last(self, number: int) -> WindowFits:
        """Keep the last ``number`` windows."""
        first = self.still.size - number
        return WindowFits(**{field.name: getattr(self, field.name)[first:] for field in fields(self)})


def fit_windows(products: Floats, rounding: Floats | float) -> WindowFits:
    """Fit every window, with its rank chosen on the held-out quarter.

    Parameters
    ----------
    products
        Inner products of a window's increments, shape ``(window, m, m)``.
    rounding
        Squared length of one snapshot's rounding error, shape ``(window,)`` or one number.
    """
    n_windows, m = products.shape[:2]
    rounding = np.broadcast_to(rounding, n_windows)
    origin = held_out_start(m)
    about_last = _about(products, m)
    reach = about_last.diagonal(axis1=1, axis2=2).max(axis=1)
    still = reach <= 4 * rounding
    floor = np.maximum(2 * rounding, REACH_FLOOR**2 * reach)
    trial = _Fitted.of(_about(products, origin), origin)
    ranks = range(1, min(LARGEST_RANK, origin - 2) + 1)
    errors = trial.hindcasts(ranks, floor)
    within = errors <= np.maximum(GOOD_ENOUGH * errors.min(axis=0), 1e-12)
    rank = np.where(still, 0, 1 + np.argmax(within, axis=0))
    whole = _Fitted.of(about_last, m)
    return WindowFits(
        one_step=np.where(still, 0.0, trial.one_step(rank, products, floor)),
        hindcast=np.where(still, 0.0, np.take_along_axis(errors, np.maximum(rank, 1)[None] - 1, axis=0)[0]),
        linear=np.where(still, 0.0, trial.line(floor)),
        rank=rank.astype(np.int64),
        eigenvalue=whole.eigenvalues(rank),
        still=still,
        fixed_point=whole.fixed_point(rank),
    )


def held_out_start(m: int) -> int:
    """Snapshot of a window of m lags at which its held-out quarter begins."""
    return m - max(1, round(HELD_OUT * m))


def _displacements(m: int, origin: int) -> Floats:
    """Matrix T with ``w_i - w_origin = sum_k T_ik D_k`` over the m increments of a window."""
    row, column = np.arange(m + 1)[:, None], np.arange(m)
    after = (column >= origin) & (column < row)
    before = (column < origin) & (column >= row)
    return after.astype(np.float64) - before


def _about(products: Floats, origin: int) -> Floats:
    """Inner products of a window's snapshots about one of them, as exact as the increments."""
    displacements = _displacements(products.shape[1], origin)
    return np.asarray(displacements @ products @ displacements.T)


@dataclass(frozen=True)
class _Fitted:
    """Affine fits on the snapshots up to ``origin``, for every rank at once: smaller ranks are corners."""

    gram: Floats
    origin: int
    operator: Floats
    coefficients: Floats
    start: Floats  # the state at the origin
    intercept: Floats

    @classmethod
    def of(cls, gram: Floats, origin: int) -> _Fitted:
        used = gram[:, : origin + 1, : origin + 1]
        reduced = GramModes(used, 1).truncate(0.0, LARGEST_RANK)
        return cls(gram, origin, reduced.operator, reduced.coefficients, reduced.state, reduced.intercept)

    def _kept(self, rank: int | npt.NDArray[np.int64]) -> Floats:
        """One for the directions of a rank, zero for the others; shape ``(window, state)``."""
        width = self.operator.shape[1]
        chosen = np.broadcast_to(np.asarray(rank), (self.operator.shape[0],))
        return np.asarray(np.arange(width) < chosen[:, None], np.float64)

    def _corner(self, rank: int | npt.NDArray[np.int64]) -> Floats:
        kept = self._kept(rank)
        return np.asarray(self.operator * kept[:, :, None] * kept[:, None, :])

    def hindcasts(self, ranks: range, floor: Floats) -> Floats:
        """Relative error of the forecast from the origin, over all leads of the held-out part.

        At each rank, shape ``(rank, window)``.
        """
        n, targets = self.origin, np.arange(self.origin + 1, self.gram.shape[1])
        width = self.operator.shape[1]
        kept = (np.arange(width) < np.array(ranks)[:, None]).astype(np.float64)
        operator = self.operator[:, None] * kept[:, :, None] * kept[:, None, :]
        moved = (operator @ self.start[:, None, :, None])[..., 0]
        displacement = (moved + (self.intercept - self.start)[:, None]) * kept
        states = np.zeros((*displacement.shape[:2], targets.size + 1, width))
        with np.errstate(over="ignore", invalid="ignore"):
            for lead in range(targets.size):
                ahead = (operator @ states[:, :, lead, :, None])[..., 0]
                states[:, :, lead + 1] = ahead + displacement
            flat = states[:, :, 1:].reshape(states.shape[0], -1, width)
            weights = flat @ self.coefficients.swapaxes(1, 2)
            inner = (weights * (weights @ self.gram[:, :n, :n])).sum(axis=2)
            weights = weights.reshape(*states.shape[:2], targets.size, n)
            across = (weights * self.gram[:, None, targets, :n]).sum(axis=3)
            change = self.gram[:, targets, targets]
            errors = np.maximum(inner.reshape(across.shape) - 2 * across + change[:, None], 0.0)
            return _relative(errors.sum(axis=2).T, change.sum(axis=1), floor * targets.size)

    def line(self, floor: Floats) -> Floats:
        """Relative error of a least-squares line through the last fifth before the held-out part."""
        first = min(self.origin - 2, round(0.8 * self.origin))
        centred = np.arange(self.origin - first) - (self.origin - first - 1) / 2
        slope = np.zeros((self.gram.shape[0], self.origin))
        slope[:, first:] = centred / (centred @ centred)
        squared = np.zeros(self.gram.shape[0])
        moved = np.zeros_like(squared)
        for target in range(self.origin + 1, self.gram.shape[1]):
            error, change = self._error((target - self.origin) * slope, target)
            squared, moved = squared + error, moved + change
        return _relative(squared, moved, floor * (self.gram.shape[1] - 1 - self.origin))

    def one_step(self, rank: npt.NDArray[np.int64], products: Floats, floor: Floats) -> Floats:
        """Relative error of single lags in the held-out part, each from the true snapshot before."""
        n, kept, operator = self.origin, self._kept(rank), self._corner(rank)
        across = _displacements(products.shape[1], n)[:n] @ products
        squared = np.zeros(self.gram.shape[0])
        moved = np.zeros_like(squared)
        for k in range(n, products.shape[1]):
            state = (self.start + _apply(self.coefficients.swapaxes(1, 2), self.gram[:, :n, k])) * kept
            change = (_apply(operator, state) + self.intercept - state) * kept
            weights = _apply(self.coefficients, change)
            inner = (weights * _apply(self.gram[:, :n, :n], weights)).sum(axis=1)
            squared += inner - 2 * (weights * across[:, :, k]).sum(axis=1) + products[:, k, k]
            moved += products[:, k, k]
        return _relative(squared, moved, floor * (products.shape[1] - n))

    def eigenvalues(self, rank: npt.NDArray[np.int64]) -> Complex:
        """Eigenvalues at each window's rank, largest modulus first, NaN past it."""
        width = LARGEST_RANK
        operator = np.zeros((self.operator.shape[0], width, width))
        operator[:, : self.operator.shape[1], : self.operator.shape[1]] = self._corner(rank)
        values = np.linalg.eigvals(operator).astype(np.complex128)
        values = np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)
        return np.where(np.arange(width) < rank[:, None], values, np.nan)

    def fixed_point(self, rank: npt.NDArray[np.int64]) -> Floats:
        """Weights of increments that lead from the last snapshot to where the fit comes to rest."""
        kept, operator = self._kept(rank), self._corner(rank)
        displacement = (_apply(operator, self.start) + self.intercept - self.start) * kept
        resting = np.asarray(
            np.linalg.pinv(np.eye(operator.shape[1]) - operator, rcond=_SINGULAR), np.float64
        )
        weights = _apply(self.coefficients, _apply(resting, displacement))
        return np.asarray(weights @ _displacements(self.gram.shape[1] - 1, self.origin)[: self.origin])

    def _error(self, weights: Floats, target: int) -> tuple[Floats, Floats]:
        """Squared error of the displacement ``sum_j weights_j (w_j - w_origin)``, and the true one's."""
        n = self.origin
        inner = (weights * _apply(self.gram[:, :n, :n], weights)).sum(axis=1)
        across = (weights * self.gram[:, :n, target]).sum(axis=1)
        change = self.gram[:, target, target]
        return np.asarray(np.maximum(inner - 2 * across + change, 0.0)), change


def _apply(matrices: Floats, vectors: Floats) -> Floats:
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _relative(squared: Floats, moved: Floats, floor: Floats) -> Floats:
    """Root of error over movement; errors within the floor are none, and nothing is divided by less."""
    beyond = np.where(squared <= floor, 0.0, squared)
    with np.errstate(invalid="ignore"):
        relative = np.sqrt(beyond / np.maximum(moved, np.maximum(floor, np.finfo(np.float64).tiny)))
    return np.where(np.isfinite(relative), relative, np.inf)
