"""The operators of Dogra & Redman to the digit: ``U = F' pinv(F)``, raw weights, no centring."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koopscope.operators.model import Floats, Operators, apply, condition_number, kept_inverse
from koopscope.parallel import require_memory
from koopscope.statistics import PairTriangles, SnapshotTriangles, r_factor


def solve_paper(triangles: PairTriangles, last: Floats, *, rtol: float | None = None) -> Operators:
    """Fit ``U = F' pinv(F)`` for groups with fewer weights than pairs.

    F holds the snapshots but the last, F' the snapshots but the first. From the R factor
    ``[R11 R12; 0 R22]`` of ``[F^T | F'^T]``, ``U = R12^T pinv(R11)^T``, with the pseudo-inverse's
    tolerance taken from F's own shape: ``max(d, n-1)`` times the spacing of doubles at the largest
    singular value, or ``rtol`` relative to it where given.

    Notes
    -----
    Dogra & Redman, "Optimizing Neural Networks via Koopman Operator Theory", NeurIPS 2020,
    https://doi.org/10.48550/arXiv.2006.02361.
    """
    d = last.shape[1]
    reference = np.concatenate([triangles.reference, triangles.reference], axis=1)
    whole = triangles.factors
    raw = whole[:, :, 1:] + whole[:, :, :1] * reference[:, None, :]
    factors = r_factor(raw)
    now, following = factors[:, :, :d], factors[:, :, d:]
    left, singular, right = np.linalg.svd(now[:, :d])
    kept = _kept(singular, max(d, triangles.n_pairs), rtol)
    operator = following[:, :d].swapaxes(1, 2) @ (left * kept_inverse(singular, kept)[:, None, :]) @ right
    return Operators(
        operator=operator,
        displacement=apply(operator, last) - last,
        basis=None,
        centre=np.zeros_like(last),
        rank=kept.sum(axis=1).astype(np.int64),
        condition=condition_number(singular),
        scale=np.sqrt(np.sum((following - now) ** 2, axis=(1, 2)) / triangles.n_pairs),
        drift=np.zeros_like(last),
        pairs_now=now,
        pairs_next=following,
    )


def solve_paper_wide(
    triangles: SnapshotTriangles, snapshots: Floats, *, rtol: float | None = None
) -> Operators:
    """Fit the same operator for groups with more weights than pairs, without a d x d matrix.

    With ``F = Q S V^T``, ``U = B Q^T`` for ``B = F' V S^-1``, so ``U^m w = B (Q^T B)^(m-1) Q^T w``. The state
    is ``Q^T w`` and one more entry that takes w(t2) away in the first step, so that the recursion for
    the displacement holds from lead 0 on.

    Parameters
    ----------
    triangles
        Snapshot triangles of a block.
    snapshots
        The grid's snapshots of the block, shape ``(group, member, snapshot)``; read only for B.
    rtol
        Tolerance relative to the largest singular value; the source's own where None.
    """
    factors = triangles.factors
    n_groups, d, n = snapshots.shape
    require_memory(
        n_groups * d * n * 8,
        f"the paper's operator for groups of {d} weights over {n} snapshots",
        "use --method affine, --partition node, or a larger --lag",
    )
    left, singular, right = np.linalg.svd(factors[:, :, :-1], full_matrices=False)
    kept = _kept(singular, max(d, n - 1), rtol)
    coefficients = right.swapaxes(1, 2) * kept_inverse(singular, kept)[:, None, :]
    project = (left * kept[:, None, :]).swapaxes(1, 2)
    reduced = project @ factors[:, :, 1:] @ coefficients
    start = apply(project, factors[:, :, -1])
    last = snapshots[:, :, -1]
    operator = np.concatenate([reduced, start[:, :, None]], axis=2)
    operator = np.concatenate([operator, np.zeros((n_groups, 1, operator.shape[2]))], axis=1)
    lift = np.concatenate([snapshots[:, :, 1:] @ coefficients, last[:, :, None]], axis=2)
    rows = (project @ factors).swapaxes(1, 2)
    rows = np.concatenate([rows, np.zeros((n_groups, n, 1))], axis=2)
    increments = factors[:, :, 1:] - factors[:, :, :-1]
    return Operators(
        operator=operator,
        displacement=np.concatenate([start, -np.ones((n_groups, 1))], axis=1),
        basis=lift,
        centre=np.zeros_like(last),
        rank=kept.sum(axis=1).astype(np.int64),
        condition=condition_number(singular),
        scale=np.sqrt(np.sum(increments**2, axis=(1, 2)) / (n - 1)),
        drift=np.zeros((n_groups, operator.shape[1])),
        pairs_now=rows[:, :-1],
        pairs_next=rows[:, 1:],
    )


def _kept(singular: Floats, largest_side: int, rtol: float | None) -> npt.NDArray[np.bool_]:
    largest = singular[:, :1]
    tolerance = largest_side * np.spacing(largest) if rtol is None else rtol * largest
    return singular > tolerance
