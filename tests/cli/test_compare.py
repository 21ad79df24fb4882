from __future__ import annotations

import shutil

import pytest

import koopscope
from koopscope.simulation import linear_run


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    place = tmp_path_factory.mktemp("stored")
    for seed in range(4):
        run = linear_run(seed=seed, drift=0.0)
        koopscope.save(koopscope.fit(run, "layer", t2=300, lag=5), place / f"seed{seed}.koop" / "fit.zarr")
    return place


@pytest.fixture
def folders(here, stored):
    shutil.copytree(stored, here, dirs_exist_ok=True)
    return [f"seed{seed}.koop" for seed in range(4)]


def test_compare__table_picture_and_json(shell, folders, here):
    outcome = shell("compare", *folders, "-o", "distances.png")
    assert outcome.code == 0
    assert "(4) seed3" in outcome.out
    assert (here / "distances.png").read_bytes().startswith(b"\x89PNG")
    found = shell("compare", *folders, "--json").json
    fits = [koopscope.load(here / folder / "fit.zarr") for folder in folders]
    assert found["items"] == ["seed0", "seed1", "seed2", "seed3"]
    assert found["distances"] == koopscope.compare(fits).values.tolist()
    assert found["test"] is None


def test_compare__labels_are_tested(shell, folders):
    outcome = shell("compare", *folders, "--labels", *"aabb", "--permutations", "99")
    assert outcome.code == 0
    assert "over 99 relabellings of 4 runs" in outcome.out
    found = shell("compare", *folders, "--labels", *"aabb", "--json").json
    assert found["test"]["labels"] == ["a", "b"]
    assert 0 < found["test"]["p_value"] <= 1


def test_compare__by_layer(shell, folders):
    assert shell("compare", *folders[:2], "--by", "layer", "--json").json["items"] == [
        *("seed0/fc1", "seed0/fc2", "seed1/fc1", "seed1/fc2")
    ]


def test_compare__usage(shell, folders, here):
    assert shell("compare", folders[0]).code == 2
    assert shell("compare", folders[0], folders[0]).code == 2
    assert shell("compare", *folders, "--labels", "a", "b").code == 2
    assert shell("compare", *folders, "--by", "layer", "--labels", *"aabb").code == 2
    assert shell("compare", *folders, "-o", "distances.txt").code == 2
    (here / "mine.png").write_text("mine")
    assert shell("compare", *folders, "-o", "mine.png").code == 2
    assert (here / "mine.png").read_text() == "mine"
    assert shell("compare", *folders, "-o", "mine.png", "--overwrite").code == 0
    assert shell("compare", folders[0], "nowhere").code == 3
