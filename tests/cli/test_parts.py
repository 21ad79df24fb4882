"""The parts that commands share."""

from __future__ import annotations

import io
import json
import sys

import pytest

from koopscope_cli import output_folder, progress, summary, tables, verdicts

FIGURES = {"relative_l2": 0.08, "skill_linear": 0.5, "moved": 20}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "12.5x closer"),
        ({"relative_l2": 1e-4}, "10000x closer"),
        ({"relative_l2": 1e-12}, "forecast over 1 000 000x closer"),
        ({"skill_linear": -0.03}, "no better than a straight line (skill -0.03)"),
        ({"relative_l2": 1.5}, "worse than holding still (error 1.5 times"),
        ({"relative_l2": 1e7}, "diverged (error 1e+07 times"),
        ({"relative_l2": float("inf")}, "diverged"),
        ({"relative_l2": float("nan"), "moved": 0}, "diverged"),
        ({"relative_l2": 0.0, "moved": 0}, "nothing moved (0 of 20 weights)"),
        ({"relative_l2": float("inf"), "moved": 0}, "the forecast did"),
        ({"relative_l2": 0.0}, "exact (error 0)"),
    ],
)
def test_forecast_verdict__carries_its_number(changed, expected):
    verdict = verdicts.forecast_verdict({**FIGURES, **changed}, 20)
    assert expected in verdict


@pytest.mark.parametrize("kind", ["hold", "linear", "affine", "mixture"])
def test_backtest_verdict__has_words_for_every_winner(kind):
    race = {"chosen": {"kind": kind}, "leads": [50], "predicted_error": [0.2], "error_bound": [0.4]}
    race |= {"tolerance": 0.1, "horizon": 0, "horizon_censored": False}
    assert " won; error 0.2 predicted" in verdicts.backtest_verdict(race)


def test_loss_verdict__marks_a_bound():
    loss = {"at_t2": 2.0, "true": 1.0, "forecast": 0.5, "success": True}
    loss |= {"t_eq": 50.0, "t_eq_ratio": 1.0, "t_eq_censored": True}
    assert "T_eq/T >= 1 (>= 50 steps)" in verdicts.loss_verdict(loss)


def test_to_json__is_strict():
    value = {
        "a": float("nan"),
        "b": [float("-inf"), 1.5],
        "c": complex(0, float("inf")),
        "d": None,
        "e": True,
    }
    assert json.loads(summary.to_json(value)) == {
        "a": None,
        "b": [None, 1.5],
        "c": [0, None],
        "d": None,
        "e": True,
    }


def interrupted(place):
    with output_folder.staged(place) as folder:
        folder.mkdir()
        raise KeyboardInterrupt


def test_staged__failure_leaves_the_old_result(tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    (place / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(place)
    assert (place / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_staged__interrupt_while_tidying_up_leaves_nothing(tmp_path, monkeypatch):
    remove, calls = output_folder.shutil.rmtree, []

    def interrupted_once(path, **options):
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(output_folder.shutil, "rmtree", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_staged__failed_move_puts_the_old_result_back(tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    with pytest.raises(FileNotFoundError), output_folder.staged(place):
        pass  # nothing is built, so that the move fails
    assert list(tmp_path.iterdir()) == [place]


def test_show__never_crops_a_table(capsys):
    columns = {f"heading{index}": "number" for index in range(12)}
    tables.show(tables.table(columns, [["1234567890123"] * 12]))
    assert capsys.readouterr().out.count("1234567890123") == 12


def test_show__keeps_words_whole_at_80_columns(capsys, monkeypatch):
    monkeypatch.setattr(tables, "WIDTH", 80)
    fitted = {"layer": "encoder", "groups": 512, "weights": 262656, "spectral_radius": 1.00213}
    judged = {"layer": "encoder", "error_to_evolution": 0.0123, "skill_hold": 0.98, "skill_linear": -0.031}
    judged["verdict"] = "no better than a straight line (skill -0.031)"
    tables.show(
        tables.fit_table({**fitted, "t2": 10, "layers": [fitted]}, {**judged, "lead": 5, "layers": [judged]})
    )
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for word in (*judged["verdict"].split(), "encoder", "262656", "1.00213", "evolution"):
        assert word in out.split()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_at_work__draws_bars_on_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.at_work() as tell:
        tell("compiling kernels", 0, 0)
        tell("reading weights", 1, 2)
        sys.stdout.write("a loss may print\n")
        tell("reading weights", 2, 2)
    assert "compiling kernels" in terminal.getvalue()
    assert "reading weights" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_at_work__one_line_per_tenth_elsewhere(capsys):
    with progress.at_work() as tell:
        for done in range(101):
            tell("reading weights", done, 100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 11
