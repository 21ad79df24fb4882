from __future__ import annotations

import numpy as np
import pytest

import koopscope

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def folder(shell, recording, here):
    assert shell("fit", "run.zarr", "--lag", "5", "--t2", "300").code == 0
    return here / "run.koop"


def test_prune__masks_in_the_shapes_of_the_recording(shell, folder, here):
    outcome = shell("prune", "run.koop", "--fraction", ".2", "-o", "masks.npz")
    assert outcome.code == 0
    assert "removed  4 of 26 weights" in outcome.out
    masks = koopscope.prune(koopscope.load(folder / "fit.zarr"), 0.2)
    with np.load(here / "masks.npz") as stored:
        assert stored["magnitude/fc2.bias"].shape == (2,)
        np.testing.assert_array_equal(
            stored["end_point/fc1.weight"], masks["fc1.weight"].sel(criterion="end_point")
        )


def test_prune__loss_and_json(shell, folder, loss_file):
    assert "by end point" in shell("prune", "run.koop", "--fraction", ".2", "--loss", "my_loss.py:loss").out
    found = shell("prune", "run.koop", "--fraction", ".2", "--loss", "my_loss.py:loss", "--json").json
    assert found["removed"] == 4
    assert sum(row["end_point"] for row in found["tensors"]) == 4
    assert found["loss_pruned"]["magnitude"] > found["loss_at_t2"]
    assert shell("prune", "run.koop", "--fraction", ".2", "--loss", "my_loss.py:other").code == 3


def test_prune__usage(shell, folder, here):
    assert shell("prune", "run.koop", "--fraction", "1.2").code == 2
    assert shell("prune", "run.koop", "--fraction", ".2", "-o", "masks.txt").code == 2
    (here / "mine.npz").write_text("mine")
    assert shell("prune", "run.koop", "--fraction", ".2", "-o", "mine.npz").code == 2
    assert (here / "mine.npz").read_text() == "mine"
