"""Which settings would have forecast best: every candidate from many earlier origins, on Gram matrices alone.

An *origin* is a step inside the window that is taken for t2: candidates are fitted on what came before it,
and their forecasts compared with what was recorded after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from koopscope.hindcast import (
    LARGEST_RANK,
    Candidate,
    Rows,
    Truth,
    about,
    fitted_rows,
    forecast_states,
    line_rows,
    line_weights,
    snapshot_weights,
    squared_lengths,
    stays_near,
)
from koopscope.operators import Floats, GramModes
from koopscope.parallel import single_threaded_blas

LAG_MULTIPLES = (1, 2, 5)  # of the base grid, a two-hundredth of the window
DELAYS = (1, 5, 10, 20, 30)
# Partitions after the first rarely win: fewer settings of them are tried.
LAG_MULTIPLES_OF_PARTS = (2, 5)
DELAYS_OF_PARTS = (1, 10, 30)
RTOLS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
WINDOW_SHARES = (1.0, 0.5)  # of what lies before the origin
LINE_SHARES = (0.2, 0.5, 1.0)
N_ORIGINS = 9
FEWEST_COLUMNS = 8  # stacked snapshots below which a fit is an interpolation
MIXED = 5  # fits in a mixture


@dataclass(frozen=True)
class Race:
    """Relative errors of every candidate, shape ``(candidate, origin, lead)``; infinite where out.

    ``origins`` are rows of the base grid, ``leads`` numbers of base lags. ``chosen`` is the index of the
    winner, ``fits`` the settings whose mean it is: its own, or those of the members of a mixture.
    """

    candidates: tuple[Candidate, ...]
    origins: Rows
    leads: Rows
    errors: Floats
    chosen: int
    fits: tuple[Candidate, ...]

    @property
    def scores(self) -> Floats:
        """Mean over origins of the error at the largest lead, shape ``(candidate,)``."""
        return scores(self.errors)

    def worst(self) -> Floats:
        """Largest error of the chosen candidate over origins, shape ``(lead,)``."""
        return np.asarray(self.errors[self.chosen].max(axis=0))


def scores(errors: Floats) -> Floats:
    """Mean over origins of the error at the largest lead."""
    return np.asarray(errors[:, :, -1].mean(axis=1))


def run_race(partitions: Sequence[Floats], leads: Rows) -> Race:
    """Race all candidates from `N_ORIGINS` origins, and the mean of the best of them against the best.

    The mixture holds up to `MIXED` different fits of the winner's partition and lag. What a fit errs by
    depends on its settings as well as on the run; the mean of several errs by less on runs that oscillate.

    Parameters
    ----------
    partitions
        For each partition in the race, the Gram matrices of its groups about the window's last snapshot,
        shape ``(group, snapshot, snapshot)``.
    leads
        Increasing numbers of base lags; candidates are ranked at the last.
    """
    origins = race_origins(partitions[0].shape[1], int(leads[-1]))
    found: dict[Candidate, Floats] = {}
    with single_threaded_blas():
        for position, origin in enumerate(origins):
            for candidate, errors in _race_from(partitions, int(origin), leads):
                every = found.setdefault(candidate, np.full((origins.size, leads.size), np.inf))
                every[position] = errors
        candidates, errors = list(found), np.stack(list(found.values()))
        members = _best(partitions, candidates, errors, leads)
        chosen = candidates.index(members[0])
        if len(members) > 1:
            mixture = _mixture_errors(partitions[members[0].partition], members, origins, leads)
            candidates.append(replace(members[0], kind="mixture"))
            errors = np.concatenate([errors, mixture[None]])
            chosen = len(candidates) - 1 if scores(errors)[-1] < scores(errors)[chosen] else chosen
    fits = members if candidates[chosen].kind == "mixture" else members[:1]
    return Race(tuple(candidates), origins, leads, errors, chosen, tuple(fits))


def race_origins(n: int, largest_lead: int) -> Rows:
    """Spread origins over the second half of the window, as far as the largest lead lets them go."""
    last = n - 1 - largest_lead
    return np.unique(np.linspace(min(n // 2, last), last, N_ORIGINS).astype(np.int64))


def _race_from(partitions: Sequence[Floats], origin: int, leads: Rows) -> Iterator[tuple[Candidate, Floats]]:
    """Yield every candidate's relative errors at all leads from one origin."""
    end = origin + int(leads[-1]) + 1
    for index, grams in enumerate(partitions):
        seen = about(grams[:, :end, :end], origin)
        truth = Truth.of(seen, origin, leads)
        if index == 0:
            yield from _baselines(truth, origin, leads)
        for multiple, delays, share in _settings(index):
            used = fitted_rows(origin, multiple, share)
            if used.size - delays + 1 < FEWEST_COLUMNS:
                continue
            modes = GramModes(seen[:, used][:, :, used], delays)
            found = _errors_by_rtol(modes, truth, used[delays - 1 : -1], leads, multiple)
            for rtol, errors in zip(RTOLS, found, strict=True):
                yield Candidate("affine", index, multiple, delays, rtol, share), errors


def _settings(partition: int) -> Iterator[tuple[int, int, float]]:
    """Yield lag multiple, delays and share of the window that are tried for a partition."""
    if partition == 0:
        return product(LAG_MULTIPLES, DELAYS, WINDOW_SHARES)
    return product(LAG_MULTIPLES_OF_PARTS, DELAYS_OF_PARTS, WINDOW_SHARES[:1])


def _errors_by_rtol(
    modes: GramModes, truth: Truth, columns: Rows, leads: Rows, multiple: int
) -> Iterator[Floats]:
    """Yield the errors at all leads for every tolerance, from one solution at the smallest."""
    widest = modes.truncate(RTOLS[-1], LARGEST_RANK)
    inner, across = truth.products(columns, widest.coefficients)
    before, errors = -1, np.empty(0)
    for rtol in RTOLS:
        kept = modes.kept(rtol, LARGEST_RANK)
        if kept.sum() != before:  # a smaller tolerance that keeps no more directions is the same fit
            before = int(kept.sum())
            states = forecast_states(widest.restricted(kept), leads, multiple)
            width = states.shape[2]
            errors = truth.errors(states, inner[:, :width, :width], across[:, :, :width])
        yield errors


def _baselines(truth: Truth, origin: int, leads: Rows) -> Iterator[tuple[Candidate, Floats]]:
    yield Candidate("hold", 0, 1, 1, 0.0, 1.0), np.where(truth.evolution > 0, 1.0, 0.0)
    for share in LINE_SHARES:
        used = line_rows(origin, share)
        shape = (truth.gram.shape[0], leads.size, used.size)
        weights = np.broadcast_to(leads[:, None] * line_weights(used), shape)
        yield Candidate("linear", 0, 1, 1, 0.0, share), truth.errors(weights, *truth.products(used))


def _best(
    partitions: Sequence[Floats], candidates: list[Candidate], errors: Floats, leads: Rows
) -> list[Candidate]:
    """Pick the best candidate and, where it is an affine fit, different ones of its partition and lag.

    A candidate whose forecast from t2 itself leaves the neighbourhood of the window is passed over.
    """
    best: list[Candidate] = []
    taken: set[bytes] = set()
    for index in np.argsort(scores(errors), kind="stable"):
        candidate, record = candidates[index], errors[index].tobytes()
        if best and not (_mixes(candidate, best[0]) and np.isfinite(errors[index]).all()):
            continue
        if record in taken:  # the same fit under another tolerance
            continue
        if candidate.kind == "affine" and not _believable(partitions[candidate.partition], candidate, leads):
            continue
        best.append(candidate)
        taken.add(record)
        if len(best) == MIXED or candidate.kind != "affine":
            break
    return best


def _mixes(candidate: Candidate, winner: Candidate) -> bool:
    alike = (candidate.kind, candidate.partition, candidate.multiple)
    return alike == (winner.kind, winner.partition, winner.multiple)


def _believable(grams: Floats, candidate: Candidate, leads: Rows) -> bool:
    """Tell whether the forecast from t2 stays near the window at all leads: nothing after t2 is needed."""
    last = grams.shape[1] - 1
    gram = about(grams, last)
    weights = snapshot_weights(gram, last, leads, candidate)
    with np.errstate(over="ignore", invalid="ignore"):
        squared = squared_lengths(weights, gram)
    reach = float(gram.diagonal(axis1=1, axis2=2).sum(axis=0).max())
    return bool(stays_near(squared, reach).all())


def _mixture_errors(grams: Floats, members: Sequence[Candidate], origins: Rows, leads: Rows) -> Floats:
    """Relative errors of the mean of several fits, shape ``(origin, lead)``."""
    errors = np.empty((origins.size, leads.size))
    for position, origin in enumerate(origins):
        end = int(origin + leads[-1]) + 1
        seen = about(grams[:, :end, :end], int(origin))
        truth = Truth.of(seen, int(origin), leads)
        weights = [snapshot_weights(seen, int(origin), leads, member) for member in members]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.mean(weights, axis=0)
        errors[position] = truth.errors(mean, *truth.products(np.arange(end)))
    return errors
