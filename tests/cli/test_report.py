from __future__ import annotations

import numpy as np
import pytest

import koopscope

pytest.importorskip("bokeh", reason="bokeh is not installed; python -m pip install '.[report]'")
pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_report__a_page_beside_the_fit(shell, recording, here):
    assert shell("fit", "run.zarr", "--lag", "5", "--t2", "300").code == 0
    outcome = shell("report", "run.koop")
    assert outcome.code == 0
    page = (here / "run.koop" / "report.html").read_text()
    assert "<title>run: affine, node</title>" in page
    found = shell("report", "run.koop", "--json").json
    assert (len(found["leads"]), found["leads"][-1]) == (12, 100)
    assert found["basin"]["windows"] > 100
    assert "Basin of attraction" in page
    assert shell("fit", "run.zarr").code == 0, "a folder with a report is still koopscope's own"
    assert not (here / "run.koop" / "report.html").exists()


def test_report__elsewhere(shell, recording, here):
    assert shell("fit", "run.zarr").code == 0
    (here / "mine.html").write_text("mine")
    assert shell("report", "run.koop", "-o", "mine.html").code == 2
    assert shell("report", "run.koop", "-o", "page.txt").code == 2
    assert (here / "mine.html").read_text() == "mine"
    assert shell("report", "run.koop", "-o", "mine.html", "--overwrite").code == 0
    assert shell("report", "nowhere").code == 3


def test_report__without_a_recording_after_t2(shell, recording, here):
    assert shell("fit", "run.zarr", "--t2", "400").code == 0
    assert shell("report", "run.koop", "--json").json["leads"] == []


def test_demo__from_nothing(shell, here):
    outcome = shell("demo")
    assert outcome.code == 0
    assert "report.html" in outcome.out
    assert {"fit.zarr", "report.html"} <= {entry.name for entry in (here / "koopscope-demo.koop").iterdir()}
    assert shell("demo", "--json", "-o", "other.koop").json["groups"] == 22


def test_report__of_a_run_too_short_for_windows_goes_without_them(shell, here):
    with koopscope.TrajectoryWriter("short.zarr", layout="torch") as writer:
        for step in range(12):
            writer.append(step, {"fc.weight": np.full((2, 2), 0.9**step), "fc.bias": np.full(2, 0.8**step)})
    assert shell("fit", "short.zarr", "--lag", "1").code == 0
    outcome = shell("report", "short.koop")
    assert outcome.code == 0
    assert "no timeline" in outcome.out
    assert "Basin of attraction" not in (here / "short.koop" / "report.html").read_text()
