"""Do intervals cover, does the residual tell spurious modes? python tests/studies/spectra.py.

A thousand seeded trials a regime by default, about 20 minutes on one core; kept.py has the options. Each
simulates a known linear map with noise, fits it, and asks whether the 95 % intervals of `koopscope.spectrum`
hold the true modulus (so the growth rate) and, of a pair, the true angle (so the frequency).
"""

from __future__ import annotations

import numpy as np
from kept import Kept, options, seeds_of
from scipy.stats import rankdata

import koopscope
from koopscope.intervals import bootstrap_eigenvalues, fit_states
from koopscope.parallel import single_threaded_blas
from koopscope.trajectory import from_arrays

TURN = 0.3  # radians a lag of the conjugate pairs
RUNS = 100  # of the residual's AUROC


def one(lives: float, n: int) -> list[complex]:
    """Give an eigenvalue with ``n (1 - r) = lives``."""
    return [1 - lives / n]


def pair(lives: float, n: int) -> list[complex]:
    """Give the first of a conjugate pair with ``n (1 - r) = lives``."""
    return [(1 - lives / n) * np.exp(1j * TURN)]


# Regime: true eigenvalues, lags, and observation noise relative to the state's spread.
REGIMES = {
    **{f"real {lives}": (one(lives, 400), 400, 0.0) for lives in (20, 30, 50, 100)},
    "real 20, 100 lags": (one(20, 100), 100, 0.0),
    "real 100, 1000 lags": (one(100, 1000), 1000, 0.0),
    **{f"pair {lives}": (pair(lives, 400), 400, 0.0) for lives in (20, 30, 50, 100)},
    "real 40 and 160": ([0.9, 0.6], 400, 0.0),
    "pair 28 and real 120": ([0.93 * np.exp(1j * TURN), 0.7], 400, 0.0),
    **{f"real {lives}": (one(lives, 400), 400, 0.0) for lives in (1, 2, 5, 10)},
    **{f"pair {lives}": (pair(lives, 400), 400, 0.0) for lives in (1, 2, 5, 10)},
    **{f"real 40, observed with {x:.0%}": (one(40, 400), 400, x) for x in (0.1, 0.3, 1.0)},
    **{f"pair 40, observed with {x:.0%}": (pair(40, 400), 400, x) for x in (0.1, 0.3, 1.0)},
}


def known_map(eigenvalues: list[complex], random: np.random.Generator) -> np.ndarray:
    """Make a real matrix with these eigenvalues (and conjugates) in random orthonormal directions."""
    blocks = [
        np.array([[value.real]])
        if abs(value.imag) == 0
        else np.array([[value.real, -value.imag], [value.imag, value.real]])
        for value in map(complex, eigenvalues)
    ]
    size = sum(len(block) for block in blocks)
    matrix, start = np.zeros((size, size)), 0
    for block in blocks:
        matrix[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    turned = np.linalg.qr(random.normal(size=(size, size)))[0]
    return turned @ matrix @ turned.T


def simulate(matrix: np.ndarray, n: int, observation: float, random: np.random.Generator) -> np.ndarray:
    """Run the map with unit noise to its stationary spread, then for n lags more."""
    settling = 600
    states = np.zeros((n + settling + 1, len(matrix)))
    noise = random.normal(size=states.shape)
    for k in range(n + settling):
        states[k + 1] = matrix @ states[k] + noise[k]
    states = states[settling:]
    return states + observation * states.std(axis=0) * random.normal(size=states.shape)


def trial(name: str, seed: int) -> list[list[bool]]:
    """Say of each mode whether its intervals hold the true modulus and angle, and whether they are trusted.

    Of a conjugate pair the first speaks for both.
    """
    eigenvalues, n, observation = REGIMES[name]
    random = np.random.default_rng(seed)
    matrix = known_map(eigenvalues, random)
    states = simulate(matrix, n, observation, random)
    found = np.linalg.eigvals(fit_states(states)[0]).astype(complex)
    found = found[np.lexsort((-found.imag, -np.abs(found)))]
    bounds = bootstrap_eigenvalues(states, found, confidence=0.95, random=random)
    held = []
    for value in map(complex, eigenvalues):
        mode = int(np.argmin(np.abs(found - value)))
        modulus = bounds.modulus_low[mode] <= abs(value) <= bounds.modulus_high[mode]
        angle = bounds.angle_low[mode] <= np.angle(value) <= bounds.angle_high[mode]
        held.append([bool(modulus), bool(angle), bool(bounds.trusted[mode])])
    return held


def coverage(held: np.ndarray, oscillates: bool) -> str:
    """Put one mode's trials into words; shape ``(trial, 3)``."""
    modulus, angle, trusted = held.T
    frequency = f"{angle.mean():.3f}" if oscillates else "-"
    words = f"growth {modulus.mean():.3f}, frequency {frequency:5}, trusted {trusted.mean():.3f}"
    if trusted.any():
        words += f", of these growth {modulus[trusted].mean():.3f}"
        words += f", frequency {angle[trusted].mean():.3f}" if oscillates else ""
    return words


def separation(runs: int, noise: float) -> float:
    """AUROC of the residual: spurious against true eigenvalues of fits with more modes than the run has.

    Runs of 20 weights in three decaying modes of length one, recorded with noise, fitted with rank 8.
    An eigenvalue is true if it lies within 0.02 of one of the three, each of which claims the nearest.
    """
    residuals, spurious = [], []
    for seed in range(runs):
        random = np.random.default_rng(seed)
        truth = np.array([0.98 * np.exp(0.2j), 0.98 * np.exp(-0.2j), random.uniform(0.9, 0.97)])
        matrix = known_map([truth[0], truth[2].real], random)
        states = [random.normal(size=3) + 1]
        for _ in range(200):
            states.append(matrix @ states[-1])
        mixed = np.array(states) @ np.linalg.qr(random.normal(size=(20, 3)))[0].T
        values = mixed + noise * random.normal(size=mixed.shape)
        run = from_arrays(np.arange(201), {"fc.weight": values.reshape(-1, 4, 5)})
        fit = koopscope.fit(run, "network", t1=0, t2=200, lag=1, rank=8, rtol=1e-9)
        table = koopscope.spectrum(fit)
        distance = np.abs(table["eigenvalue"].to_numpy()[:, None] - truth)
        true = np.zeros(len(distance), bool)
        true[np.argmin(distance, axis=0)] = distance.min(axis=0) < 0.02
        residuals.append(table["residual"].to_numpy())
        spurious.append(~true)
    score, wrong = np.concatenate(residuals), np.concatenate(spurious)
    above = rankdata(score)[wrong].sum() - wrong.sum() * (wrong.sum() + 1) / 2
    return float(above / (wrong.sum() * (~wrong).sum()))


def main() -> None:
    """Print coverage, a line a mode of each regime, and the AUROC of the residual."""
    asked = options(__doc__, "2000:3000").parse_args()
    kept, seeds = Kept(asked.keep, asked.seconds), seeds_of(asked.seeds)
    for name, (eigenvalues, _, _) in REGIMES.items():
        if asked.only not in name:
            continue
        with single_threaded_blas():
            found = kept.outcomes(name, seeds, lambda seed, name=name: trial(name, seed))
        if found:
            for mode, value in enumerate(eigenvalues):
                words = coverage(np.array(found)[:, mode], complex(value).imag != 0)
                print(f"{name:27} {len(found):5} trials: {words}", flush=True)
    if asked.only in "residual":
        for noise in (1e-4, 1e-3, 1e-2):
            found = separation(RUNS, noise)
            print(f"residual, spurious against true, noise {noise:g}, {RUNS} runs: AUROC {found:.4f}")
    print(f"{kept.missing} trials missing")


if __name__ == "__main__":
    main()
