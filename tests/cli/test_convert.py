from __future__ import annotations

import koopscope


def test_convert__hdf5_becomes_a_store_with_the_same_fit(shell, here, root):
    source = root / "data" / "oscillator_adam.h5"
    outcome = shell("convert", str(source), "adam.zarr", "--json")
    assert outcome.code == 0
    assert outcome.json["steps"] == 3000
    old, new = koopscope.open_trajectory(source), koopscope.open_trajectory("adam.zarr")
    for name in ("fc2.weight", "loss"):
        assert new[name].equals(old[name])


def test_convert__replaces_only_when_told(shell, here, root):
    source = str(root / "data" / "oscillator_adam.h5")
    (here / "taken.zarr").mkdir()
    (here / "taken.zarr" / "mine.txt").write_text("mine")
    for extra in ([], ["--overwrite"]):
        assert shell("convert", source, "taken.zarr", *extra).code == 2
    assert (here / "taken.zarr" / "mine.txt").read_text() == "mine"


def test_convert__not_a_recording(shell, here):
    (here / "notes.txt").write_text("no weights")
    assert shell("convert", "notes.txt", "out.zarr").code == 3
    assert not (here / "out.zarr").exists()


def test_inspect__says_what_is_odd_and_what_it_costs(shell, here, root):
    outcome = shell("inspect", str(root / "data" / "oscillator_adam.h5"))
    assert outcome.code == 0
    assert "cost     about" in outcome.out
