"""Slow, plain NumPy twins of kernels and methods, written from the formulas; float64 throughout."""

from __future__ import annotations

import numpy as np


def pair_matrix(snapshots, members, reference):
    """Rows ``[1 | w(t)-r | w(t+lag)-r]`` of one group."""
    values = snapshots[:, members].astype(np.float64) - reference
    return np.concatenate([np.ones((len(values) - 1, 1)), values[:-1], values[1:]], axis=1)


def lagged_moments(snapshots, members, reference, stride):
    """Gram matrix of ``[1 | w(t)-r | w(t+lag)-r]`` over every pair, of each group."""
    grams = []
    for group, origin in zip(members, reference, strict=True):
        values = snapshots[:, group].astype(np.float64) - origin
        ones = np.ones((len(values) - stride, 1))
        pairs = np.concatenate([ones, values[:-stride], values[stride:]], axis=1)
        grams.append(pairs.T @ pairs)
    return np.stack(grams)


def packed_upper(matrix):
    """The upper triangle of a matrix, column after column, each down to its diagonal."""
    square = np.zeros((matrix.shape[1], matrix.shape[1]))
    square[: len(matrix)] = np.triu(matrix)[: matrix.shape[1]]
    return np.concatenate([square[: column + 1, column] for column in range(len(square))])


def blocked_r(matrix):
    """Inner products of the columns, which R keeps."""
    return matrix.T @ matrix


def increment_gram(snapshots, members):
    """``P_km = D_k . D_m`` of each group."""
    increments = np.diff(snapshots.astype(np.float64), axis=0)
    return np.stack([increments[:, group] @ increments[:, group].T for group in members])


def symmetric_product(rows, product):
    """``X X^T`` added to the triangle on and above the diagonal."""
    return product + np.triu(rows @ rows.T)


def trend_sums(rows, centred, origin):
    """``sum c_t (w_t - origin)`` of the last rows."""
    return centred @ (rows[len(rows) - len(centred) :].astype(np.float64) - origin)


def small_svd(matrices):
    """LAPACK's singular values, largest first."""
    return np.linalg.svd(matrices, compute_uv=False)


def truncated_map(now, following, rank):
    """``D (D^T Y U S^-1) D^T`` with D the first right singular vectors of the starts of pairs, as rows."""
    left, singular, right = np.linalg.svd(now, full_matrices=False)
    kept = right[:rank].T
    return kept @ (kept.T @ following.T @ left[:, :rank] / singular[:rank]) @ kept.T


def small_eigen(matrix):
    """LAPACK's eigenvalues, complex whatever they are."""
    return np.linalg.eigvals(matrix).astype(np.complex128)


def small_modes(operators, ranks, directions, now, following, drift, displacement):
    """Eigenvalues, largest first, residuals and shares, group by group; NaN beyond a group's rank."""
    values = np.full(operators.shape[:2], np.nan + 0j)
    residuals, shares = np.full(operators.shape[:2], np.nan), np.full(operators.shape[:2], np.nan)
    for group, rank in enumerate(ranks):
        found, right = np.linalg.eig(operators[group, :rank, :rank])
        found, right = found.astype(np.complex128), right.astype(np.complex128)
        order = np.argsort(-np.abs(found), kind="stable")
        left = np.linalg.inv(right)[order] @ directions[group, :, :rank].T
        pairs = now[group][None], following[group][None], drift[group][None], displacement[group][None]
        figures = mode_figures(left[None], found[order][None], *pairs)
        values[group, :rank] = found[order]
        residuals[group, :rank], shares[group, :rank] = figures[0][0], figures[1][0]
    return values, residuals, shares


def increment_products(rows):
    """``sum D_k . D_k`` and ``sum D_k . D_(k-1)`` of the increments."""
    increments = np.diff(rows.astype(np.float64), axis=0)
    return np.sum(increments**2), np.sum(increments[1:] * increments[:-1])


def mode_figures(left, values, now, following, drift, displacement):
    """Error of each eigenfunction over its movement, and its share of the first lag; extended precision."""
    left = left.astype(np.clongdouble)
    starts, ends = left @ now.swapaxes(1, 2), left @ following.swapaxes(1, 2)
    error = np.sum(np.abs(ends - values[:, :, None] * starts) ** 2, axis=2)
    moved = np.sum(np.abs(ends - starts) ** 2, axis=2) + np.abs(np.einsum("gms,gs->gm", left, drift)) ** 2
    residuals = np.sqrt(error) / np.sqrt(np.where(moved > 0, moved, 1))
    return residuals, np.abs(np.einsum("gms,gs->gm", left, displacement))


def affine_steps(operators, offsets, counts):
    """Repeat ``z <- A z + b`` one step at a time."""
    states = []
    for operator, offset in zip(operators, offsets, strict=True):
        z = np.zeros_like(offset)
        path = [z]
        for _ in range(max(counts)):
            z = operator @ z + offset
            path.append(z)
        states.append([path[count] for count in counts])
    return np.array(states)


def paper_operator(snapshots, rtol=None):
    """``U = F' pinv(F)`` written as ``((F' V) / s) U^T``; ``snapshots`` is ``(snapshot, weight)``."""
    data = snapshots.astype(np.float64).T
    now, following = data[:, :-1], data[:, 1:]
    left, singular, right = np.linalg.svd(now, full_matrices=False)
    tolerance = max(now.shape) * np.spacing(singular[0]) if rtol is None else rtol * singular[0]
    kept = singular > tolerance
    operator = ((following @ right[kept].T) / singular[kept]) @ left[:, kept].T
    return operator, singular


def affine_forecast(snapshots, n_lags, *, rtol, delays=1, stride=1):
    """Centred, truncated affine fit on stacked states by SVD of the data; the displacement after n lags.

    Pairs are ``stride`` snapshots apart.
    """
    data = snapshots.astype(np.float64).T
    n_columns = data.shape[1] - delays + 1
    stacked = np.concatenate([data[:, shift : shift + n_columns] for shift in range(delays)])
    now, following = stacked[:, :-stride], stacked[:, stride:]
    centre, mean_next = now.mean(axis=1), following.mean(axis=1)
    left, singular, right = np.linalg.svd(now - centre[:, None], full_matrices=False)
    kept = singular > rtol * singular[0]
    left = left[:, kept]
    reduced = left.T @ (following - mean_next[:, None]) @ right[kept].T / singular[kept]
    intercept = left.T @ (mean_next - centre)
    start = left.T @ (stacked[:, -1] - centre)
    state = start.copy()
    for _ in range(n_lags):
        state = reduced @ state + intercept
    return (left @ (state - start))[-data.shape[0] :]
