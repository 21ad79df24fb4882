from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

import koopscope
from koopscope.comparison import MOST, spectral_distance
from koopscope.errors import ResultError, UsageError
from koopscope.simulation import linear_run


def spectrum_of(values, lag=1):
    values = np.asarray(values, complex)
    per_step = np.abs(values) ** (1 / lag) * np.exp(1j * np.angle(values) / lag)
    return xr.Dataset(
        {"eigenvalue": ("eigenvalue", values), "eigenvalue_per_step": ("eigenvalue", per_step)},
        {"layer": ("eigenvalue", np.full(values.size, "fc1", dtype=object))},
        {"koopscope_result": "spectrum", "lag": lag},
    )


def scattered(random, count, centre=0.0, spread=1.0):
    return centre + spread * (random.normal(size=count) + 1j * random.normal(size=count))


def test_spectral_distance__is_the_least_over_all_assignments():
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 5):
        one, other = scattered(random, count), scattered(random, count)
        ways = [np.abs(one - other[list(order)]).mean() for order in itertools.permutations(range(count))]
        assert spectral_distance(one, other) == pytest.approx(min(ways), abs=1e-14)


def test_spectral_distance__repeating_and_the_linear_programme_agree(monkeypatch):
    """Two solvers of the same transport problem, on unequal counts."""
    random = np.random.default_rng(1)
    for n, m in ((1, 4), (2, 3), (5, 7), (12, 9)):
        one, other = scattered(random, n), scattered(random, m)
        repeated = spectral_distance(one, other)
        with monkeypatch.context() as patched:
            patched.setattr("koopscope.comparison.lcm", lambda n, m: MOST + 1)
            programmed = spectral_distance(one, other)
        assert repeated == pytest.approx(programmed, abs=1e-9)


def test_spectral_distance__a_metric():
    random = np.random.default_rng(2)
    a, b, c = (scattered(random, count) for count in (4, 6, 3))
    assert spectral_distance(a, random.permutation(a)) == 0
    assert spectral_distance(a, b) == pytest.approx(spectral_distance(b, a))
    assert spectral_distance(a, c) <= spectral_distance(a, b) + spectral_distance(b, c) + 1e-12


def test_spectral_distance__on_the_line_it_is_scipy_s_wasserstein():
    from scipy.stats import wasserstein_distance

    random = np.random.default_rng(3)
    one, other = random.normal(size=7), random.normal(size=11)
    assert spectral_distance(one + 0j, other + 0j) == pytest.approx(wasserstein_distance(one, other))


def test_spectral_distance__a_subset_is_not_at_zero():
    random = np.random.default_rng(4)
    for _ in range(20):
        whole = scattered(random, 8)
        for kept in (1, 4, 7):
            assert spectral_distance(whole, whole[:kept]) > 0.01


def test_compare__runs_and_layers():
    fits = {f"seed {seed}": koopscope.fit(linear_run(seed=seed), "layer", t2=400) for seed in (0, 1, 2)}
    distances = koopscope.compare(fits)
    assert distances["item"].values.tolist() == list(fits)
    np.testing.assert_array_equal(distances, distances.T)
    assert not np.diag(distances).any()
    one, other = (koopscope.spectrum(fits[name])["eigenvalue"].to_numpy() for name in ("seed 0", "seed 1"))
    assert float(distances[0, 1]) == spectral_distance(one, other)
    layers = koopscope.compare(fits, by="layer")
    assert layers["item"].values.tolist()[:2] == ["seed 0/fc1", "seed 0/fc2"]
    assert layers["layer"].values.tolist() == ["fc1", "fc2"] * 3


def test_compare__a_fit_and_its_spectrum_are_the_same():
    fit = koopscope.fit(linear_run(), "node", t2=400)
    assert float(koopscope.compare([fit, koopscope.spectrum(fit)])[0, 1]) == 0


def test_compare__unequal_lags_meet_at_the_larger():
    per_step = np.array([0.99, 0.97 * np.exp(0.01j), 0.97 * np.exp(-0.01j)])
    fine, coarse = spectrum_of(per_step**5, lag=5), spectrum_of(per_step**20, lag=20)
    distances = koopscope.compare([fine, coarse])
    assert float(distances[0, 1]) < 1e-12
    assert distances.attrs["lag"] == 20


def test_compare__what_cannot_be_compared():
    table = spectrum_of([1.0, 0.5])
    with pytest.raises(UsageError, match="at least two"):
        koopscope.compare([table])
    with pytest.raises(UsageError, match="'run' or 'layer'"):
        koopscope.compare([table, table], by="node")
    with pytest.raises(ResultError, match="expected a fit or a spectrum"):
        koopscope.compare([table, linear_run()])
    with pytest.raises(ResultError, match="nothing moved"):
        koopscope.compare([table, spectrum_of([])])
    with pytest.raises(UsageError, match="coarser partition"):
        koopscope.compare([table, spectrum_of(np.ones(MOST + 1))])


def test_permutation_test__p_values_are_uniform_without_a_difference():
    random = np.random.default_rng(5)
    labels = ["a"] * 6 + ["b"] * 6
    p_values = []
    for draw in range(200):
        spectra = [spectrum_of(scattered(random, 3)) for _ in labels]
        test = koopscope.permutation_test(koopscope.compare(spectra), labels, permutations=299, seed=draw)
        p_values.append(float(test["p_value"]))
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) < 0.1


def test_permutation_test__finds_a_difference_of_place_or_spread():
    random = np.random.default_rng(6)
    labels = ["a"] * 10 + ["b"] * 10
    for centre, spread in ((0.8, 1.0), (0.0, 0.3)):
        spectra = [spectrum_of(scattered(random, 5)) for _ in range(10)]
        spectra += [spectrum_of(scattered(random, 5, centre, spread)) for _ in range(10)]
        test = koopscope.permutation_test(koopscope.compare(spectra), labels)
        assert float(test["p_value"]) <= 0.01
        mean = test["mean_distance"]
        assert float(mean[0, 1]) > float(mean.values.diagonal().mean())


def test_permutation_test__statistic_is_that_of_the_definition():
    random = np.random.default_rng(7)
    place = random.normal(size=7)
    distance = np.abs(place[:, None] - place)
    labels = np.array([*"aabbcca"])
    test = koopscope.permutation_test(
        xr.DataArray(distance, dims=("item", "item_other")), labels.tolist(), permutations=9
    )
    # On a line pseudo-F is the F of an ordinary analysis of variance.
    groups = [place[labels == name] for name in "abc"]
    between = sum(group.size * (group.mean() - place.mean()) ** 2 for group in groups) / 2
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / 4
    assert float(test["statistic"]) == pytest.approx(between / within)
    assert (float(test["p_value"]) * 10) % 1 == pytest.approx(0, abs=1e-9)
    assert np.isnan(koopscope.permutation_test(xr.DataArray(distance), [*"aaaaaab"])["mean_distance"][1, 1])


def test_permutation_test__equal_items_are_not_apart():
    distances = xr.DataArray(np.zeros((6, 6)), dims=("item", "item_other"))
    assert float(koopscope.permutation_test(distances, [*"aaabbb"])["p_value"]) == 1.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [("aab", "a label for each of the 4"), ("aaaa", "two kinds"), ("abcd", "more than once")],
)
def test_permutation_test__labels_that_cannot_be_permuted(labels, message):
    with pytest.raises(UsageError, match=message):
        koopscope.permutation_test(xr.DataArray(np.ones((4, 4)) - np.eye(4)), [*labels])
