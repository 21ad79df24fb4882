"""Runs against runs: how far apart their spectra are, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from koopscope.errors import ResultError, UsageError
from koopscope.metrics import Floats
from koopscope.spectra import as_spectrum
from koopscope.variables import check

Complex = npt.NDArray[np.complex128]
Fits = Mapping[str, xr.DataTree | xr.Dataset] | Sequence[xr.DataTree | xr.Dataset]

MOST = 2000  # eigenvalues of a spectrum; matching two of that size takes about a second
MOST_PLAN = 250_000  # entries of a transport plan between unequal counts, about ten seconds


def compare(fits: Fits, *, by: str = "run") -> xr.DataArray:
    """Measure the distance between the spectra of runs, or of their layers.

    For equal counts the optimal assignment, ``min over permutations s of mean_i |a_i - b_s(i)|``; for
    unequal counts optimal transport of uniform masses ``1/n`` to ``1/m``, of which the assignment is the
    special case (the 1-Wasserstein distance in the complex plane). A proper subset of a spectrum is not at
    distance 0 unless it has each distinct eigenvalue in the same proportion.

    Eigenvalues are per lag. Fits of unequal lags are brought to the largest one, by powers of the principal
    root per step.

    Parameters
    ----------
    fits
        Fits, or spectra, by name or in a sequence (named "0", "1", ...); at least two.
    by
        ``"run"`` compares all eigenvalues of one fit with all of another; ``"layer"`` every layer of every
        fit with every other, so that layers of one network can be compared too.

    Returns
    -------
    xr.DataArray
        ``distance``, dims ``(item, item_other)``, symmetric with a zero diagonal; coords ``item``,
        ``run(item)``, ``layer(item)`` and, as an attribute, ``lag`` in training steps.

    Raises
    ------
    UsageError
        If fewer than two are given, ``by`` is unknown, or a spectrum is too large to be matched.
    ResultError
        If one is neither a fit nor a spectrum, or holds no eigenvalue.

    References
    ----------
    Villani, "Optimal Transport", Springer 2009, https://doi.org/10.1007/978-3-540-71050-9.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> fits = {f"seed {seed}": koopscope.fit(linear_run(seed=seed), "layer", t2=800) for seed in (0, 1)}
    >>> distances = koopscope.compare(fits)
    >>> distances.dims, bool(distances[0, 1] == distances[1, 0])
    (('item', 'item_other'), True)
    """
    if by not in ("run", "layer"):
        raise UsageError(f"by must be 'run' or 'layer', got {by!r}")
    named = dict(fits) if isinstance(fits, Mapping) else {str(i): fit for i, fit in enumerate(fits)}
    if len(named) < 2:
        raise UsageError(f"compare needs at least two fits, got {len(named)}")
    tables = {name: as_spectrum(fit) for name, fit in named.items()}
    lag = max(int(table.attrs["lag"]) for table in tables.values())
    items = [item for name, table in tables.items() for item in _items(name, table, by, lag)]
    values = [eigenvalues for _, _, eigenvalues in items]
    distance = np.zeros((len(items), len(items)))
    for i, own in enumerate(values):
        for j in range(i):
            distance[i, j] = distance[j, i] = spectral_distance(own, values[j])
    labels = [run if by == "run" else f"{run}/{layer}" for run, layer, _ in items]
    coords = {
        "item": labels,
        "item_other": labels,
        "run": ("item", [run for run, _, _ in items]),
        "layer": ("item", [layer for _, layer, _ in items]),
    }
    made = xr.Dataset({"distance": (("item", "item_other"), distance)}, coords)
    return check(made)["distance"].assign_attrs(koopscope_result="comparison", by=by, lag=lag)


def spectral_distance(first: Complex, second: Complex) -> float:
    """Transport one set of eigenvalues onto another: the mean way in the plane, at its least.

    Raises
    ------
    UsageError
        If the sets are too large to be matched exactly.

    Examples
    --------
    >>> spectral_distance(np.array([1.0, 0.5j]), np.array([0.5j, 0.8]))
    0.1
    >>> spectral_distance(np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.0])) > 0
    True
    """
    n, m = first.size, second.size
    if max(n, m) > MOST or (n != m and lcm(n, m) > MOST and n * m > MOST_PLAN):
        raise UsageError(
            f"spectra of {n} and {m} eigenvalues are too many to be matched exactly (at most {MOST}, and "
            f"unequal counts whose product is at most {MOST_PLAN}); fit a coarser partition, such as layer "
            "or network, or compare by layer"
        )
    cost = np.abs(first[:, None] - second[None, :])
    copies = lcm(n, m)
    if copies <= MOST:  # uniform masses: every eigenvalue counts so often that the counts agree
        cost = np.repeat(np.repeat(cost, copies // n, axis=0), copies // m, axis=1)
        matched = linear_sum_assignment(cost)
        return round(float(cost[matched].mean()), 15)
    leaving = sparse.kron(sparse.eye_array(n), np.ones((1, m)))
    arriving = sparse.kron(np.ones((1, n)), sparse.eye_array(m))
    plan = linprog(
        cost.ravel(),
        A_eq=sparse.vstack([leaving, arriving]).tocsr(),
        b_eq=np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)]),
        method="highs",
    )
    return float(plan.fun)


def permutation_test(
    distances: xr.DataArray, labels: Sequence[str], *, permutations: int = 9999, seed: int = 0
) -> xr.Dataset:
    """Ask whether items with the same label are closer to each other than chance would have it.

    The statistic is the pseudo-F of a permutational analysis of variance,
    ``F = ((S - W) / (a - 1)) / (W / (N - a))`` with ``S = sum_{i<j} d_ij^2 / N`` over all N items and ``W``
    the same sum within each of the a labels, over its own count. Labels are permuted across items, so an
    item must be one independent seed; ``p = (b + 1) / (m + 1)`` with b of m permutations at least as far
    apart as the labels given.

    Parameters
    ----------
    distances
        Result of `koopscope.compare`.
    labels
        One an item, such as its optimiser; at least two different ones, one of them twice.
    permutations
        How many, m; the smallest p is ``1 / (m + 1)``, or about one over the number of different
        relabellings where that is larger.
    seed
        Of the permutations.

    Returns
    -------
    xr.Dataset
        ``p_value``, ``statistic``, ``permuted_statistic(permutation)`` and
        ``mean_distance(label, label_other)``, the mean distance between two items of these labels.

    Raises
    ------
    UsageError
        If the labels do not fit the distances, or cannot be permuted.

    References
    ----------
    Anderson, "A new method for non-parametric multivariate analysis of variance", Austral Ecology 2001,
    https://doi.org/10.1111/j.1442-9993.2001.01070.pp.x; on ``b + 1``: Phipson & Smyth 2010,
    https://doi.org/10.2202/1544-6115.1585.

    Examples
    --------
    >>> place = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 0.3, 5.3])
    >>> distances = xr.DataArray(abs(place[:, None] - place), dims=("item", "item_other"))
    >>> test = permutation_test(distances, [*"aaabbbab"], permutations=999)
    >>> bool(test["p_value"] < 0.1)
    True
    """
    names, codes = _codes(distances, labels)
    if permutations < 1:
        raise UsageError(f"permutations must be at least 1, got {permutations}")
    squared = np.asarray(distances.to_numpy(), np.float64) ** 2
    member = np.eye(len(names))[codes]
    random = np.random.default_rng(seed)
    shuffled = np.array([random.permutation(codes.size) for _ in range(permutations)])
    statistic = float(_pseudo_f(squared, member[None])[0])
    chunks = np.array_split(shuffled, max(1, permutations * member.size // 1_000_000))
    permuted = np.concatenate([_pseudo_f(squared, member[rows]) for rows in chunks])
    # Relabellings that only swap names add the same numbers in another order.
    as_far = np.count_nonzero(permuted >= statistic * (1 - 1e-9))
    data: dict[str, Any] = {
        "p_value": ((), (as_far + 1) / (permutations + 1)),
        "statistic": ((), statistic),
        "permuted_statistic": (("permutation",), permuted),
        "mean_distance": (("label", "label_other"), _mean_distances(np.sqrt(squared), member)),
    }
    attrs = {"koopscope_result": "permutation_test", "permutations": permutations, "seed": seed}
    return check(xr.Dataset(data, {"label": names, "label_other": names}, attrs))


def _items(name: str, table: xr.Dataset, by: str, lag: int) -> list[tuple[str, str, Complex]]:
    """List what is compared of one fit, as (run, layer, eigenvalues per lag)."""
    values = table["eigenvalue"].to_numpy()
    if int(table.attrs["lag"]) != lag:
        values = table["eigenvalue_per_step"].to_numpy() ** lag
    if not values.size:
        raise ResultError(f"{name} holds no eigenvalue: nothing moved in its window, so there is no spectrum")
    if by == "run":
        return [(name, "network", values)]
    layers = table["layer"].to_numpy().astype(str)
    return [(name, layer, values[layers == layer]) for layer in dict.fromkeys(layers.tolist())]


def _codes(distances: xr.DataArray, labels: Sequence[str]) -> tuple[list[str], npt.NDArray[np.intp]]:
    given = [str(label) for label in labels]
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise UsageError(f"distances must be a square matrix, got shape {distances.shape}")
    if len(given) != distances.shape[0]:
        raise UsageError(f"expected a label for each of the {distances.shape[0]} items, got {len(given)}")
    names = list(dict.fromkeys(given))
    if len(names) < 2 or len(names) == len(given):
        raise UsageError(
            f"labels must name at least two kinds, and one kind more than once; got {', '.join(names)}"
        )
    return names, np.array([names.index(label) for label in given])


def _pseudo_f(squared: Floats, member: Floats) -> Floats:
    """Pseudo-F of each relabelling; ``member`` has shape ``(relabelling, item, label)``, of 0 and 1."""
    n_items, n_labels = member.shape[1:]
    sizes = member[0].sum(axis=0)
    own = np.einsum("pil,pil->pl", np.einsum("ij,pjl->pil", squared, member, optimize=True), member)
    within = (own / (2 * sizes)).sum(axis=1)
    total = squared.sum() / (2 * n_items)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (total - within) / within * (n_items - n_labels) / (n_labels - 1)
    return np.where(np.isnan(ratio), 0.0, ratio)  # no distance at all: no label is apart from another


def _mean_distances(distance: Floats, member: Floats) -> Floats:
    sizes = member.sum(axis=0)
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    with np.errstate(invalid="ignore"):
        return np.asarray(member.T @ distance @ member / pairs)
