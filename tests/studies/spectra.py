"""Do intervals cover, does the residual tell spurious modes? tests/studies/spectra.py [TRIALS] [REGIME].

A thousand seeded trials a regime by default, half an hour on one core. Each simulates a known linear map with
noise, fits it, and asks whether the 95 % interval of `koopscope.spectrum` holds the true modulus.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import rankdata

import koopscope
from koopscope.intervals import bootstrap_eigenvalues, fit_states
from koopscope.trajectory import from_arrays

# Regime, true eigenvalues, lags, and observation noise relative to the state's spread.
REGIMES = {
    "n(1-r) = 20": ([0.95], 400, 0.0),
    "n(1-r) = 20, 100 lags": ([0.8], 100, 0.0),
    "n(1-r) = 100": ([0.9], 1000, 0.0),
    "40 and 160": ([0.9, 0.6], 400, 0.0),
    "a pair (28) and 120": ([0.93 * np.exp(0.3j), 0.7], 400, 0.0),
    "n(1-r) = 10": ([0.975], 400, 0.0),
    "n(1-r) = 5": ([0.9875], 400, 0.0),
    "n(1-r) = 1": ([0.9975], 400, 0.0),
    "40, observation noise 10 %": ([0.9], 400, 0.1),
    "40, observation noise 30 %": ([0.9], 400, 0.3),
    "40, observation noise 100 %": ([0.9], 400, 1.0),
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


def coverage(name: str, trials: int) -> tuple[list[float], float]:
    """Share of intervals that hold the true modulus, mode by mode, and the share called trusted."""
    eigenvalues, n, observation = REGIMES[name]
    held, trusted = [], []
    for seed in range(trials):
        random = np.random.default_rng(seed)
        matrix = known_map(eigenvalues, random)
        states = simulate(matrix, n, observation, random)
        found = np.linalg.eigvals(fit_states(states)[0]).astype(complex)
        found = found[np.lexsort((-found.imag, -np.abs(found)))]
        bounds = bootstrap_eigenvalues(states, found, confidence=0.95, random=random)
        truth = np.linalg.eigvals(matrix)
        nearest = np.abs(truth[np.argmin(np.abs(truth[:, None] - found), axis=0)])
        held.append((bounds.modulus_low <= nearest) & (nearest <= bounds.modulus_high))
        trusted.append(bounds.trusted)
    return np.mean(held, axis=0).tolist(), float(np.mean(trusted))


def separation(runs: int) -> float:
    """AUROC of the residual: spurious against true eigenvalues of fits with more modes than the run has.

    Runs of 20 weights in three decaying modes, recorded with noise of 1e-4 of the motion, fitted with rank 8.
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
        values = mixed + 1e-4 * random.normal(size=mixed.shape)
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


def main(trials: int = 1000, only: str = "") -> None:
    """Print coverage, a line a regime, and the AUROC of the residual over 100 runs."""
    print(f"residual, spurious against true: AUROC {separation(min(trials, 100)):.3f}", flush=True)
    print(f"{trials} trials each, intervals of 95 %, by mode")
    for name in (name for name in REGIMES if only in name):
        held, trusted = coverage(name, trials)
        shares = ", ".join(f"{share:.3f}" for share in held)
        print(f"{name:30} covered {shares:24} trusted {trusted:.2f}", flush=True)


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, str), sys.argv[1:], strict=False)))
