"""``koopscope basin``: verdicts on a recording, and on one that is being written."""

from __future__ import annotations

import json
from pathlib import Path


def test_basin__table_and_json(shell, recording):
    seen = shell("basin", recording)
    assert seen.code == 0, seen.err
    assert "suggest  --t1" in seen.out
    assert Path("basin.png").read_bytes().startswith(b"\x89PNG")
    told = shell("basin", recording, "--partition", "layer", "--deterministic", "--json").json
    assert [group["path"] for group in told["groups"]] == ["fc1", "fc2"]
    assert told["stochastic_rule"] == "asked for"
    assert 0 <= told["suggested"]["t1"] < told["suggested"]["t2"] <= 400


def test_basin__pictures_of_others_stay(shell, recording):
    Path("basin.png").write_bytes(b"mine")
    assert shell("basin", recording).code == 2
    assert Path("basin.png").read_bytes() == b"mine"


def test_basin__a_picture_is_written_whole_or_not_at_all(shell, recording, monkeypatch):
    assert shell("basin", recording).code == 0
    before = Path("basin.png").read_bytes()

    def half(self, place, **_):
        Path(place).write_bytes(before[:100])
        raise OSError(27, "File too large")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    assert shell("basin", recording).code == 1
    assert Path("basin.png").read_bytes() == before
    assert [path.name for path in Path().iterdir() if path.suffix == ".png" or path.name.startswith(".")] == [
        "basin.png"
    ]


def test_basin__pictures_of_other_kinds_and_places(shell, recording):
    assert shell("basin", recording, "-o", "new/basin.svg").code == 0
    assert b"<svg" in Path("new/basin.svg").read_bytes()
    for place in ("basin.xyz", "/"):
        seen = shell("basin", recording, "-o", place)
        assert seen.code == 2
        assert "expected a name that ends in" in seen.err


def test_basin__follow_prints_a_line_a_look(shell, recording):
    followed = shell("basin", recording, "--follow", "--patience", "0", "--window", "80", "--json")
    assert followed.code == 0, followed.err
    lines = [json.loads(line) for line in followed.out.splitlines()]
    assert lines[-1]["step"] == 399  # the last whole lag of 3 steps
    assert "in a basin" in shell("basin", recording, "--follow", "--patience", "0", "--window", "80").out


def test_basin__follow_settings_that_cannot_be(shell, recording):
    for words, told in (
        (("--lag", "0"), "positive number"),
        (("--patience", "nan"), "cannot be negative"),
        (("-o", "a.png"), "leave -o out"),
    ):
        outcome = shell("basin", recording, "--follow", *words)
        assert (outcome.code, told in outcome.err) == (2, True)


def test_basin__windows_that_cannot_be(shell, recording):
    assert shell("basin", recording, "--window", "4000").code == 3
