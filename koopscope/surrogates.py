"""Does a noisy run contract, or is it a random walk? Judged against surrogates that only walk.

A surrogate strings together blocks of the run's own increments in random order, their mean removed, so that
it keeps their size, shape and short memory but nothing pulls it back. Keeping the mean would call a quarter
of all random walks contracting. Inner products of a surrogate's increments are entries of the run's own
Gram matrix: no weight is read again.

Reference: Theiler, Eubank, Longtin, Galdrikian & Farmer, "Testing for nonlinearity in time series: the method
of surrogate data", Physica D 1992, https://doi.org/10.1016/0167-2789(92)90102-S.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

from koopscope.operators import Floats

N_SURROGATES = 99
SIGNIFICANT = 0.02
RANK = 3
LONG_LAG = 3  # the mean square displacement is compared between one lag and a third of the stretch
BATCH = 25  # surrogates fitted at a time


@dataclass(frozen=True)
class Contraction:
    """Two tests of one stretch, each with its p-value against surrogates.

    Attributes
    ----------
    rate
        ``n (1 - r)`` of the affine fit of rank three: how many e-foldings the slowest direction has.
    displacement
        ``log[L MSD(1) / MSD(L)]``, L a third of the stretch: zero for a walk, positive where motion is
        pulled back.
    modes
        Number of eigenvalues with ``n (1 - |lambda|) >= 1``.
    """

    rate: float
    rate_p: float
    displacement: float
    displacement_p: float
    modes: int

    @property
    def contracting(self) -> bool:
        """Whether either test says so."""
        by_rate = self.rate >= 1 and self.rate_p <= SIGNIFICANT
        return by_rate or self.displacement_p <= SIGNIFICANT


def judge_contraction(products: Floats, *, seed: int = 0) -> Contraction:
    """Test one stretch against surrogates.

    Parameters
    ----------
    products
        Inner products of the stretch's increments, shape ``(m, m)``.
    seed
        Of the surrogates.
    """
    m = products.shape[0]
    random = np.random.default_rng(seed)
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    rates: list[float] = []
    displacements: list[Floats] = []
    for start in range(0, N_SURROGATES, BATCH):
        order = _block_orders(m, min(BATCH, N_SURROGATES - start), random)
        drawn = centred[order[:, :, None], order[:, None, :]]
        rates += [_rates(each)[0] for each in drawn]
        displacements.append(_displacement(drawn))
    rate, modes = _rates(products)
    displacement = float(_displacement(products[None])[0])
    return Contraction(
        rate=rate,
        rate_p=_p_value(rate, np.array(rates)),
        displacement=displacement,
        displacement_p=_p_value(displacement, np.concatenate(displacements)),
        modes=modes,
    )


def _block_orders(m: int, number: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Random orders of m increments that keep blocks of neighbours together."""
    length = max(1, round(m ** (1 / 3)))
    starts = random.integers(0, m, size=(number, -(-m // length)))
    orders = (starts[:, :, None] + np.arange(length)) % m
    return np.asarray(orders.reshape(number, -1)[:, :m])


def _rates(products: Floats) -> tuple[float, int]:
    """``n (1 - r)`` of the affine fit of rank three, and how many of its eigenvalues reach one."""
    m = products.shape[0]
    sums = np.cumsum(np.cumsum(products[::-1], axis=0)[::-1][:, ::-1], axis=1)[:, ::-1]
    gram = np.pad(sums, ((0, 1), (0, 1)))
    starts = gram[:m, :m] - gram[:m, :m].mean(axis=0)
    starts = starts - starts.mean(axis=1)[:, None]
    squares, vectors = scipy.linalg.eigh(starts, subset_by_index=(max(0, m - RANK), m - 1))
    kept = squares > m * np.finfo(np.float64).eps * squares[-1]
    coefficients = vectors[:, kept] / np.sqrt(squares[kept])
    coefficients -= coefficients.mean(axis=0)
    modulus = np.abs(np.linalg.eigvals(coefficients.T @ gram[:m, 1:] @ coefficients))
    return m * (1 - float(modulus.max(initial=0.0))), int((m * (1 - modulus) >= 1).sum())


def _displacement(products: Floats) -> Floats:
    """``log[L MSD(1) / MSD(L)]`` of each stretch."""
    m = products.shape[1]
    long = max(2, m // LONG_LAG)
    single = products.diagonal(axis1=1, axis2=2).mean(axis=1)
    # |w_(k+L) - w_k|^2 sums a square of the Gram matrix: four entries of its double cumulative sum.
    total = np.pad(np.cumsum(np.cumsum(products, axis=1), axis=2), ((0, 0), (1, 0), (1, 0)))
    low, high = np.arange(m - long + 1), np.arange(long, m + 1)
    squares = total[:, high, high] - total[:, low, high] - total[:, high, low] + total[:, low, low]
    tiny = np.finfo(np.float64).tiny
    return np.asarray(np.log(np.maximum(long * single, tiny) / np.maximum(squares.mean(axis=1), tiny)))


def _p_value(observed: float, surrogates: Floats) -> float:
    return float((1 + np.count_nonzero(surrogates >= observed)) / (1 + surrogates.size))
