"""Which settings would have forecast best: every candidate from many earlier origins, on Gram matrices alone.

An *origin* is a step inside the window that is taken for t2: candidates are fitted on what came before it,
and their forecasts compared with what was recorded after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from koopscope.hindcast import Candidate, Rows, Truths, fitted_rows, straight_weights
from koopscope.members import Forecasts, is_believable
from koopscope.operators import Floats
from koopscope.origin_fits import OriginFits, embeddings
from koopscope.parallel import single_threaded_blas

Settings = tuple[int, dict[int, tuple[float, ...]]]

# For each lag, in units of the base grid (a two-hundredth of the window), numbers of delays, and for each
# the shares of what lies before the origin.
SETTINGS: tuple[Settings, ...] = (
    (1, {1: (1.0,), 5: (0.5,), 10: (0.5,), 30: (1.0, 0.5)}),
    (2, {10: (1.0,), 20: (1.0,)}),
)
# Partitions after the first rarely win, and where they do it is mostly luck: few of their settings are
# tried, and they have to be better by a margin.
SETTINGS_OF_PARTS: tuple[Settings, ...] = ((2, {5: (0.5,)}),)
MARGIN_OF_PARTS = 1.25
RTOLS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LINE_SHARES = (0.2, 0.5, 1.0)
N_ORIGINS = 9
POOL = 15  # fits that a mixture is chosen from: the best,
WITHIN = 3.0  # and no worse than so many times the best of them
MIXED = 5  # fits in a mixture


@dataclass(frozen=True)
class Race:
    """Relative errors of every candidate, shape ``(candidate, origin, lead)``; infinite where out.

    ``origins`` are rows of the base grid, ``leads`` numbers of base lags. ``chosen`` is the index of the
    winner, ``fits`` the settings whose mean it is: its own, or those of the members of a mixture.
    ``forecasts`` hold the decompositions of the whole window that the decision needed.
    """

    candidates: tuple[Candidate, ...]
    origins: Rows
    leads: Rows
    errors: Floats
    chosen: int
    fits: tuple[Candidate, ...]
    forecasts: Forecasts

    @property
    def scores(self) -> Floats:
        """Mean over origins of the error at the largest lead, shape ``(candidate,)``."""
        return scores(self.errors)

    def worst(self) -> Floats:
        """Largest error of the chosen candidate over origins, shape ``(lead,)``."""
        return np.asarray(self.errors[self.chosen].max(axis=0))


@dataclass(frozen=True)
class _Entry:
    """A candidate with its errors, shape ``(origin, lead)``, and the fits they come from, if it has any."""

    candidate: Candidate
    errors: Floats
    source: OriginFits | None

    @property
    def order(self) -> float:
        """Score, with the margin that parts are held to."""
        return float(scores(self.errors[None])[0]) * (MARGIN_OF_PARTS if self.candidate.partition else 1.0)


def scores(errors: Floats) -> Floats:
    """Mean over origins of the error at the largest lead."""
    return np.asarray(errors[:, :, -1].mean(axis=1))


def run_race(partitions: Sequence[Floats], leads: Rows) -> Race:
    """Race all candidates from `N_ORIGINS` origins, and take the mean of the most central of the best.

    The mixture holds up to `MIXED` different fits of the best partition, and straight lines, out of the
    `POOL` best. What a fit errs by depends on its settings as well as on the run; the mean of several errs by
    less, and depends less on which of many won by luck. Where there are no more to choose from, the mean has
    to score better than the best of them.

    Parameters
    ----------
    partitions
        For each partition in the race, the Gram matrices of its groups about the window's last snapshot,
        shape ``(group, snapshot, snapshot)``.
    leads
        Increasing numbers of base lags; candidates are ranked at the last.
    """
    origins = race_origins(partitions[0].shape[1], int(leads[-1]))
    with single_threaded_blas():
        truths = [Truths.of(grams, origins, leads) for grams in partitions]
        entries = list(_baselines(truths[0]))
        for index, truth in enumerate(truths):
            entries += _affine(truth, index)
        forecasts = Forecasts(partitions, leads)
        pool = _pool(forecasts, entries, truths[0])
        members = [pool[at] for at in forecasts.most_central([own.candidate for own in pool], MIXED)]
        if len(members) > 1:
            mixture = _mixture(members, truths)
            entries.append(mixture)
            # The best of many looks better than it is, by luck; among a few its score can be believed.
            if len(pool) <= MIXED and mixture.order >= pool[0].order:
                members = pool[:1]
    chosen = len(entries) - 1 if len(members) > 1 else entries.index(members[0])
    return Race(
        candidates=tuple(entry.candidate for entry in entries),
        origins=origins,
        leads=leads,
        errors=np.stack([entry.errors for entry in entries]),
        chosen=chosen,
        fits=tuple(entry.candidate for entry in members),
        forecasts=forecasts,
    )


def race_origins(n: int, largest_lead: int) -> Rows:
    """Spread origins over the second half of the window, as far as the largest lead lets them go."""
    last = n - 1 - largest_lead
    return np.unique(np.linspace(min(n // 2, last), last, N_ORIGINS).astype(np.int64))


def _affine(truths: Truths, partition: int) -> Iterator[_Entry]:
    """Yield every affine fit of a partition with its errors from all origins."""
    for multiple, shares in SETTINGS_OF_PARTS if partition else SETTINGS:
        rows = [fitted_rows(int(origin), multiple, 1.0) for origin in truths.origins]
        stacked = [
            embeddings(gram[:, own][:, :, own], list(shares))
            for gram, own in zip(truths.grams, rows, strict=True)
        ]
        for number, share in ((each, share) for each, some in shares.items() for share in some):
            # A shorter window ends on the same origin: its columns are the last of the whole one's.
            columns = [fitted_rows(int(origin), multiple, share)[number - 1 :] for origin in truths.origins]
            grams = [
                own[number][:, -len(newest) :, -len(newest) :] if number in own and len(newest) else None
                for own, newest in zip(stacked, columns, strict=True)
            ]
            fits = OriginFits.of(truths, grams, columns, multiple, RTOLS)
            if fits is None:
                continue
            for rtol, errors in fits.errors().items():
                yield _Entry(Candidate("affine", partition, multiple, number, rtol, share), errors, fits)


def _baselines(truths: Truths) -> Iterator[_Entry]:
    hold = np.where(truths.evolution > 0, 1.0, 0.0)
    yield _Entry(Candidate("hold", 0, 1, 1, 0.0, 1.0), hold, None)
    for share in LINE_SHARES:
        line = Candidate("linear", 0, 1, 1, 0.0, share)
        yield _Entry(line, truths.errors_of_weights(_weights(line, None, truths)), None)


def _weights(candidate: Candidate, source: OriginFits | None, truths: Truths) -> list[Floats]:
    """Weights on snapshots that make up a candidate's forecast, one array an origin."""
    if source is not None:
        return [source.snapshot_weights(candidate.rtol, at) for at in range(truths.origins.size)]
    found = []
    for gram, origin in zip(truths.grams, truths.origins, strict=True):
        straight = straight_weights(gram.shape[1], int(origin), truths.leads, candidate)
        found.append(np.broadcast_to(straight, (gram.shape[0], *straight.shape)))
    return found


def _pool(forecasts: Forecasts, entries: Sequence[_Entry], truth: Truths) -> list[_Entry]:
    """List the best candidates that differ: straight lines, and believable fits of one partition.

    Where ``hold`` is the best it stays alone, and else it is left out with all that is worse: a mean with
    it is a shorter forecast, no better one.
    """
    pool: list[_Entry] = []
    taken: set[bytes] = set()
    partition: int | None = None
    for entry in sorted(entries, key=lambda entry: entry.order):
        candidate, record = entry.candidate, entry.errors.tobytes()
        if candidate.kind == "hold":
            return pool or [entry]
        if pool and (len(pool) == POOL or entry.order > WITHIN * pool[0].order):
            break
        if record in taken:  # the same fit under another tolerance
            continue
        if entry.source:
            if partition not in (None, candidate.partition):
                continue
            if not is_believable(forecasts.squared_changes(candidate), truth.evolution):
                continue
            partition = candidate.partition
        pool.append(entry)
        taken.add(record)
    return pool


def _mixture(members: Sequence[_Entry], truths: Sequence[Truths]) -> _Entry:
    """Judge the mean of several forecasts; its lag is the least that all of theirs divide."""
    affine = [member.candidate for member in members if member.source]
    partition = affine[0].partition if affine else 0
    own = truths[partition]
    found = [_weights(member.candidate, member.source, own) for member in members]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = [np.mean(weights, axis=0) for weights in zip(*found, strict=True)]
    lag = math.lcm(*(candidate.multiple for candidate in affine))
    described = replace(members[0].candidate, kind="mixture", partition=partition, multiple=lag)
    return _Entry(described, own.errors_of_weights(mean), None)
