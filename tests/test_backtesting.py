"""The race on Gram matrices against forecasts made one by one, and what it decides on known systems."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference

import koopscope
from koopscope.errors import UsageError, WindowError
from koopscope.hindcast import fitted_rows
from koopscope.race import race_origins
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays


def straight_run(noise=0.0):
    """Every weight on a line of its own, under noise that no operator can foresee."""
    random = np.random.default_rng(3)
    steps = np.arange(401)
    slopes = random.normal(size=(6, 5))
    lines = 1e-2 * steps[:, None, None] * slopes + noise * random.normal(size=(401, 6, 5))
    return from_arrays(steps, {"a.weight": lines})


@pytest.fixture(scope="module")
def race(adadelta):
    return koopscope.backtest(adadelta)


def test_backtest__errors_equal_forecasts_from_the_data(adadelta, race):
    """Candidates are refitted by SVD of the data itself, origin by origin."""
    statistics = koopscope.collect(adadelta, "auto", method="auto")
    snapshots = statistics.grid.snapshots
    lag = statistics.grid.window.lag
    settings = list(zip(race.partition.values, race.lag.values, race.delays.values, race.rtol.values,
                        race.window_share.values, race.kind.values, strict=True))  # fmt: skip
    checked = 0
    for wanted in [
        ("network", lag, 1, 1e-4, 1.0),
        ("network", lag, 10, 1e-3, 0.5),
        ("network", lag, 30, 1e-3, 0.5),
        ("network", 2 * lag, 10, 1e-3, 1.0),
    ]:
        index = settings.index((*wanted, "affine"))
        multiple = wanted[1] // lag
        for position, origin in enumerate(race_origins(len(snapshots), int(race.lead[-1]) // lag)):
            used = snapshots[fitted_rows(int(origin), multiple, wanted[4])]
            for number, lead in enumerate(race.lead.values // lag):
                if lead % multiple:
                    continue
                truth = snapshots[origin + lead].astype(np.float64) - snapshots[origin]
                moved = reference.affine_forecast(used, lead // multiple, rtol=wanted[3], delays=wanted[2])
                expected = np.linalg.norm(moved - truth) / np.linalg.norm(truth)
                found = float(race["backtest_error"][index, position, number])
                # Squares lose half of the digits: agreement to 1e-11/rtol of the evolution, see METHODS.
                assert found == pytest.approx(expected, abs=1e-6)
                checked += 1
    assert checked > 100


def test_backtest__nothing_after_t2_is_looked_at(adadelta, race):
    cut = adadelta.sel(step=slice(None, race.attrs["t2"]))
    again = koopscope.backtest(cut, t2=race.attrs["t2"])
    assert again.identical(race)


def test_backtest__origins_leave_room_for_the_largest_lead(race):
    assert race.sizes["origin"] == 9
    assert int(race.origin[-1] + race.lead[-1]) <= race.attrs["t2"]
    assert int(race.origin[0]) > race.attrs["t1"]


def test_backtest__prediction_is_the_worst_of_the_origins(race):
    (chosen,) = np.flatnonzero(race["kind"].values == race.attrs["chosen"]["kind"])
    worst = race["backtest_error"][chosen].max("origin").values
    np.testing.assert_array_equal(race["predicted_error"], worst)
    np.testing.assert_array_equal(race["error_bound"], 2 * np.maximum.accumulate(worst))
    assert race["score"][chosen] == race["backtest_error"][chosen, :, -1].mean()


def test_backtest__horizon_is_the_last_lead_within_the_tolerance(adam):
    race = koopscope.backtest(adam, "network")
    within = race["lead"].values[race["error_bound"].values <= race.attrs["tolerance"]]
    assert race.attrs["horizon"] == within.max()
    assert not race.attrs["horizon_censored"]
    assert within.max() < race["lead"].values[-1]


def test_backtest__an_unfounded_prediction_is_not_within_any_tolerance():
    random = np.random.default_rng(0)
    run = from_arrays(np.arange(300), {"a.weight": random.normal(size=(300, 5, 4))})
    race = koopscope.backtest(run, t2=299)
    assert race.attrs["horizon"] == 0
    assert not race.attrs["horizon_censored"]


@pytest.mark.parametrize("partition", ["layer"])
def test_backtest__within_one_partition(adam, partition):
    race = koopscope.backtest(adam, partition, lead=600)
    assert set(race.partition.values) == {partition}
    assert int(race.lead[-1]) == 600


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tolerance": 0.0}, UsageError),
        ({"lead": 0}, UsageError),
        ({"t2": 5}, WindowError),
    ],
)
def test_backtest__settings_that_cannot_be_used(settings, error):
    with pytest.raises(error):
        koopscope.backtest(linear_run(), **settings)


def test_auto__fits_what_the_backtest_chose(adadelta, race):
    fit = koopscope.fit(adadelta, method="auto")
    chosen = race.attrs["chosen"]
    for name in ("partition", "lag", "delays", "rtol", "kind"):
        assert fit.attrs[name] == chosen[name]
    assert fit["backtest"].to_dataset().identical(race)
    assert fit.attrs["members"] == race.attrs["members"]
    start = adadelta["fc2.weight"].sel(step=fit.attrs["t2"]).values
    t1, t2 = fit.attrs["t1"], fit.attrs["t2"]
    by_hand = []
    for member in race.attrs["members"]:
        first = t2 - round((t2 - t1) * member["window_share"])
        single = koopscope.fit(
            adadelta,
            chosen["partition"],
            t1=first,
            lag=member["lag"],
            delays=member["delays"],
            rtol=member["rtol"],
            rank=60,
        )
        by_hand.append(koopscope.predict(single, 2000)["fc2.weight"].values - start)
    found = koopscope.predict(fit, 2000)["fc2.weight"].values - start
    expected = np.mean(by_hand, axis=0)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("recording", ["adam"])
def test_auto__beats_the_paper_and_the_baselines_on_real_runs(recording, request):
    run = request.getfixturevalue(recording)
    figures = {}
    for name, settings in {"auto": {"method": "auto"}, "paper": {"method": "paper"}}.items():
        fit = koopscope.fit(run, **settings)
        figures[name] = koopscope.verify(fit, run, 2900)["relative_l2"].values[0]
    fit_error, hold_error, linear_error = figures["auto"]
    assert fit_error < min(hold_error, linear_error, figures["paper"][0])


def test_backtest__the_mixture_is_the_mean_of_different_fits(adadelta):
    """By the triangle inequality it errs by no more than its members do on average."""
    race = koopscope.backtest(adadelta, lead=300)
    kinds = race["kind"].values.tolist()
    mixture = kinds.index("mixture")
    members = race.attrs["members"]
    assert len({tuple(member.values()) for member in members}) == len(members) > 1
    names = ("kind", "lag", "delays", "rtol", "window_share")
    settings = zip(*(race[name].values.tolist() for name in names), strict=True)
    errors = [
        race["backtest_error"].values[index]
        for index, found in enumerate(settings)
        if dict(zip(names, found, strict=True)) in members
        and race.partition.values[index] == race.partition.values[mixture]
    ]
    assert len(errors) == len(members)
    assert np.all(race["backtest_error"].values[mixture] <= np.mean(errors, axis=0) * (1 + 1e-9))
    # One operator has one lag: the least that those of all members divide.
    lags = [member["lag"] for member in members if member["kind"] == "affine"]
    assert race.attrs["chosen"]["lag"] == math.lcm(*lags)


def test_backtest__of_a_few_the_best_wins_alone_where_their_mean_is_no_better(monkeypatch):
    """Lines of three lengths on a straight run under noise: the longest is the best."""
    for name in ("SETTINGS", "SETTINGS_OF_PARTS"):
        monkeypatch.setattr(f"koopscope.race.{name}", ())
    race = koopscope.backtest(straight_run(noise=0.2), t2=400)
    assert race["kind"].values.tolist() == ["hold", "linear", "linear", "linear", "mixture"]
    assert race["score"].values[-1] > race["score"].values.min()
    assert race.attrs["chosen"]["kind"] == "linear"
    assert race.attrs["members"] == [
        {"kind": "linear", "lag": 2, "delays": 1, "rtol": 0.0, "window_share": 1.0}
    ]


def test_auto__states_an_error_that_turns_out_true(adadelta):
    fit = koopscope.fit(adadelta, method="auto", t2=44_000)
    table = fit["backtest"].to_dataset()
    verification = koopscope.verify(fit, adadelta, table["lead"].values)
    true = verification["relative_l2"].sel(forecast="fit").values
    assert np.all(true <= table["error_bound"].values)


def test_auto__a_straight_line_can_win_and_forecasts_one(monkeypatch):
    for name in ("SETTINGS", "SETTINGS_OF_PARTS"):  # baselines alone in the race
        monkeypatch.setattr(f"koopscope.race.{name}", ())
    run = straight_run(noise=0.05)
    fit = koopscope.fit(run, method="auto", t2=400)
    assert fit.attrs["kind"] == "linear"
    first = round(400 * (1 - fit["backtest"].attrs["chosen"]["window_share"]))
    steps = np.arange(first, 401, 2)  # the base grid has every second row
    slope = np.polyfit(steps, run["a.weight"].values[steps].reshape(steps.size, -1), 1)[0]
    moved = koopscope.predict(fit, [0, 50])["a.weight"].values - run["a.weight"].sel(step=400).values
    assert np.all(moved[0] == 0.0)
    np.testing.assert_allclose(moved[1].ravel(), 50 * slope, rtol=1e-6)


def test_auto__holding_still_wins_where_nothing_moves():
    run = from_arrays(np.arange(401), {"a.weight": np.ones((401, 6, 5))})
    fit = koopscope.fit(run, method="auto", t2=400)
    assert fit.attrs["kind"] == "hold"
    assert np.all(koopscope.predict(fit, [0, 50])["a.weight"].values == 1.0)


def test_auto__a_mixture_of_a_line_and_a_fit_forecasts_their_mean(adadelta, monkeypatch):
    """Two candidates alone, of a lag of two base lags: the line's increments must be per that lag."""
    monkeypatch.setattr("koopscope.race.SETTINGS", ((2, {1: (1.0,)}),))
    monkeypatch.setattr("koopscope.race.SETTINGS_OF_PARTS", ())
    monkeypatch.setattr("koopscope.race.RTOLS", (1e-1,))
    monkeypatch.setattr("koopscope.race.LINE_SHARES", (0.2,))
    monkeypatch.setattr("koopscope.race._Entry.order", property(_mixture_first))
    fit = koopscope.fit(adadelta, method="auto", lead=1000)
    assert fit.attrs["kind"] == "mixture"
    assert sorted(member["kind"] for member in fit.attrs["members"]) == ["affine", "linear"]
    single = koopscope.fit(adadelta, "network", lag=fit.attrs["lag"], rtol=1e-1)
    start = adadelta["fc2.weight"].sel(step=fit.attrs["t2"]).values
    affine = koopscope.predict(single, 1000)["fc2.weight"].values - start
    found = koopscope.predict(fit, 1000)["fc2.weight"].values - start
    grid = koopscope.collect(adadelta, "auto", method="auto").grid
    last = len(grid.snapshots) - 1
    used = grid.snapshots[round(0.8 * last) :].astype(np.float64)
    slope = np.polyfit(np.arange(len(used)) * grid.window.lag, used, 1)[0]
    line = 1000 * grid.weights.split(slope)["fc2.weight"]
    np.testing.assert_allclose(found[0], (affine[0] + line) / 2, rtol=1e-5, atol=1e-9)


def _mixture_first(entry):
    return {"mixture": 1.0, "affine": 2.0, "linear": 3.0, "hold": 4.0}[entry.candidate.kind]


@pytest.mark.parametrize("settings", [{"delays": 2}, {"rtol": 1e-3}, {"rank": 3}])
def test_auto__chooses_for_itself(settings):
    with pytest.raises(UsageError, match="auto"):
        koopscope.fit(linear_run(), method="auto", **settings)


def test_fit__lead_belongs_to_auto():
    with pytest.raises(UsageError, match="auto"):
        koopscope.fit(linear_run(), lead=100)


def test_auto__holding_still_is_not_mixed():
    """Of random walks nothing can be foretold: a mean with ``hold`` would only be a shorter forecast."""
    random = np.random.default_rng(7)
    run = from_arrays(np.arange(400), {"a.weight": np.cumsum(random.normal(size=(400, 6, 5)), axis=0)})
    race = koopscope.backtest(run, t2=399)
    kinds = race["kind"].values.tolist()
    assert race.attrs["chosen"]["kind"] == "hold"
    assert "mixture" not in kinds
