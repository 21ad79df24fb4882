"""``koopscope backtest``: the winner and what it left behind."""

from __future__ import annotations

SETTINGS = ("kind", "partition", "lag", "delays", "rtol", "window_share")


def test_backtest__lists_the_winner_first_and_the_baselines(shell, recording):
    """The winner is a mean as a rule, and need not have the least score."""
    told = shell("backtest", recording, "--top", "3", "--json").json
    listed = told["candidates"]
    assert {name: listed[0][name] for name in SETTINGS} == told["chosen"]
    scores = [candidate["score"] for candidate in listed[1:3]]
    assert scores == sorted(scores)
    assert {"hold", "linear"} <= {candidate["kind"] for candidate in listed}
    seen = shell("backtest", recording)
    assert seen.code == 0, seen.err
    assert " won; error" in seen.out
