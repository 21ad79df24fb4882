from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import xarray as xr

import koopscope
from koopscope.errors import OutputExistsError, ResultError
from koopscope.simulation import settling_run

pytest.importorskip("bokeh", reason="bokeh is not installed; python -m pip install '.[report]'")

NASTY = (
    "</script><script>window.hacked = 1</script>"
    """<img src="x" onerror="window.hacked = 1">'"`${window.hacked = 1}"""
)


def nasty(tree):
    """Rename a layer and a tensor to something that a page must not run."""
    renamed = tree.copy()
    blocks = {path: tree[path].to_dataset() for path in tree.attrs["blocks"]}
    blocks["fc1"].attrs["layer"] = NASTY
    for path, block in blocks.items():
        renamed[path] = xr.DataTree(block)
    renamed.attrs = json.loads(
        json.dumps(tree.attrs).replace('"layer": "fc1"', f'"layer": {json.dumps(NASTY)}')
    )
    renamed.attrs["source"] = NASTY
    return renamed


def many_points():
    """A fit with 20 000 eigenvalues, each a weight of its own."""
    random = np.random.default_rng(0)
    rate = random.uniform(0.5, 0.99, (20_000, 1))
    values = random.normal(size=rate.shape) + rate ** np.arange(40)[:, None, None]
    wide = koopscope.trajectory.from_arrays(np.arange(40), {"fc1.weight": values})
    fit = koopscope.fit(wide, "weight", t2=30, lag=1)
    return fit, koopscope.verify(fit, wide)


def test_report__says_the_verdict_and_the_settings(fitted, verification, tmp_path):
    page = koopscope.report(fitted, tmp_path / "page.html", verification=verification).read_text()
    judged = koopscope.summary.describe_verification(verification, 200)
    assert page.count(judged["verdict"]) >= 1
    assert re.search(r"<td>lag</td><td class=\"words\">10</td>", page)
    stored = re.search(r'href="data:application/json;base64,([^"]+)"', page)[1]
    found = json.loads(base64.b64decode(stored))
    assert [figures["lead"] for figures in found["leads"]] == [50, 100, 200]
    assert found["verification"]["relative_l2"] == judged["relative_l2"]


def test_report__without_a_verification(fitted, tmp_path):
    page = koopscope.report(fitted, tmp_path / "page.html").read_text()
    assert "not verified" in page
    assert "Errors of the weights" not in page


def test_report__replaces_nothing_unasked(fitted, verification, tmp_path):
    place = tmp_path / "page.html"
    koopscope.report(fitted, place)
    with pytest.raises(OutputExistsError):
        koopscope.report(fitted, place)
    with pytest.raises(OutputExistsError):
        koopscope.report(fitted, tmp_path, overwrite=True)
    with pytest.raises(ResultError):
        koopscope.report(verification, tmp_path / "other.html")
    koopscope.report(fitted, place, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_report__names_are_escaped(fitted, tmp_path):
    page = koopscope.report(nasty(fitted), tmp_path / "page.html", title=NASTY).read_text()
    assert "<script>window.hacked" not in page
    assert "<img src=" not in page
    assert "&lt;img src=" in page


def test_report__in_a_browser(fitted, verification, tmp_path, opened):
    basin = koopscope.find_basin(settling_run("drift"))
    page = opened(koopscope.report(fitted, tmp_path / "page.html", verification=verification, basin=basin))
    assert page.run("return Bokeh.documents[0].roots().map((each) => each.title.text)") == [
        *("Eigenvalues", "Errors of the weights", "Error by lead", "Basin")
    ]
    assert requests(page) == []
    assert page.problems() == []


def test_report__marks_entry_and_horizon(tmp_path, opened):
    run = settling_run("contraction", rate=0.005)
    fit, basin = koopscope.fit(run, method="auto", t2=1000), koopscope.find_basin(run)
    verification = koopscope.verify(fit, run, [50, 200, 500])
    place = koopscope.report(fit, tmp_path / "page.html", verification=verification, basin=basin)
    page = opened(place)
    entry, low, high = (float(basin[name].values[0]) for name in ("entry_step", "entry_low", "entry_high"))
    horizon = fit["backtest"].attrs["horizon"]
    assert 0 <= low < entry <= high  # nothing would be marked otherwise
    assert horizon > 0
    where = "return Array.from(Bokeh.documents[0].get_model_by_name('{}').data_source.data.{})"
    assert page.run(where.format("entry", "x")) == [entry]
    assert page.run(where.format("entry interval", "x0")) == [low]
    assert page.run(where.format("entry interval", "x1")) == [high]
    assert page.run(where.format("horizon", "x")) == [horizon]
    text = page.run("return document.querySelector('main').innerText")
    assert f"In a basin by step {entry:.0f} (between {low:.0f} and {high:.0f})." in text
    assert f"{horizon} steps, the largest lead whose stated error bound is within 0.1." in text
    assert (requests(page), page.problems()) == ([], [])


def test_report__of_a_run_that_drifts_has_no_entry(fitted, verification, tmp_path):
    basin = koopscope.find_basin(settling_run("drift"))
    place = koopscope.report(fitted, tmp_path / "page.html", verification=verification, basin=basin)
    page = place.read_text()
    assert "No basin was entered." in page
    assert "No horizon: a fit with method auto" in page
    assert '"entry interval"' not in page


def test_report__selecting_eigenvalues_selects_their_weights(fitted, verification, tmp_path, opened):
    page = opened(koopscope.report(fitted, tmp_path / "page.html", verification=verification))
    page.run("Bokeh.documents[0].get_model_by_name('eigenvalues').selected.indices = [0]")
    group = page.run("return Bokeh.documents[0].get_model_by_name('eigenvalues').data.group[0]")
    chosen = page.run(
        "const weights = Bokeh.documents[0].get_model_by_name('weights'), group = weights.data.group;"
        f"return [weights.selected.indices.map((i) => group[i]), group.filter((g) => g === {group}).length]"
    )
    assert set(chosen[0]) == {group}
    assert len(chosen[0]) == chosen[1] > 0
    assert f"1 eigenvalues of 1 groups; {chosen[1]} weights" in status(page)


def test_report__with_a_keyboard_alone(fitted, verification, tmp_path, opened):
    from selenium.webdriver.common.keys import Keys

    page = opened(koopscope.report(fitted, tmp_path / "page.html", verification=verification))
    for _ in range(12):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        if page.run("return document.activeElement.id") == "layer":
            break
    page.browser.switch_to.active_element.send_keys("fc2")
    page.browser.switch_to.active_element.send_keys(Keys.TAB, Keys.TAB)
    for _ in range(4):
        if page.run("return document.activeElement.id") == "select":
            break
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert "of 2 groups; 10 weights" in status(page)


def test_report__nothing_in_a_name_runs(fitted, tmp_path, opened):
    page = opened(koopscope.report(nasty(fitted), tmp_path / "page.html", title=NASTY))
    page.run("document.getElementById('select').click()")
    assert page.run("return window.hacked === undefined")
    assert page.run("return document.querySelector('h1').textContent") == NASTY
    assert (requests(page), page.problems()) == ([], [])


def test_report__on_a_phone_in_the_dark(fitted, verification, tmp_path, opened):
    place = koopscope.report(fitted, tmp_path / "page.html", verification=verification)
    page = opened(place)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert page.run("return document.documentElement.scrollWidth") <= 390
        assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
        ink = "return Bokeh.documents[0].roots()[0].title.text_color"
        assert "ececec" in str(page.run(ink))
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_report__of_20_000_points_stays_below_3_megabytes(tmp_path, opened):
    fit, verification = many_points()
    place = koopscope.report(fit, tmp_path / "page.html", verification=verification)
    assert place.stat().st_size <= 3e6
    page = opened(place)
    page.run("document.getElementById('select').click()")
    assert status(page).startswith("20000 eigenvalues of 20000 groups; ")
    assert page.problems() == []


def status(page):
    return page.run("return document.getElementById('status').textContent")


def requests(page):
    """Addresses the page asked for, beyond itself and what it holds."""
    sent = []
    for entry in page.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            sent.append(message["params"]["request"]["url"])
    return [url for url in sent if not url.startswith(("file:", "data:", "blob:"))]
