from __future__ import annotations

import os

import pytest

import koopscope
from koopscope.errors import OutputExistsError, UsageError
from koopscope.simulation import linear_run
from koopscope.targets import require_free_file
from koopscope.trajectory import convert


@pytest.fixture
def fit():
    return koopscope.fit(linear_run(), "layer", t2=800, lag=10)


def test_results__are_never_written_into_a_store(fit, tmp_path):
    store = tmp_path / "fit.zarr"
    koopscope.save(fit, store)
    before = sorted(store.rglob("*"))
    forecast = koopscope.predict(fit, 10)
    for write in (
        lambda: koopscope.save(fit, store / "again.zarr"),
        lambda: koopscope.export(forecast, store / "fc1" / "weights.npz"),
        lambda: koopscope.report(fit, store / "page.html"),
        lambda: convert(koopscope.example_recording(), store / "run.zarr"),
    ):
        with pytest.raises(UsageError, match="lies in the store"):
            write()
    (tmp_path / "link").symlink_to(store / "fc1")
    with pytest.raises(UsageError, match="lies in the store"):
        koopscope.save(fit, tmp_path / "link" / "again.zarr")
    assert sorted(store.rglob("*")) == before
    koopscope.save(fit, store / ".." / "again.zarr")


def test_require_free_file__replaces_nothing_but_files(tmp_path):
    file, pipe, link = tmp_path / "file", tmp_path / "pipe", tmp_path / "link"
    require_free_file(file, overwrite=False)
    file.touch()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        require_free_file(file, overwrite=False)
    require_free_file(file, overwrite=True)
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "nowhere")
    for special in (pipe, link, tmp_path):
        with pytest.raises(OutputExistsError, match="no ordinary file"):
            require_free_file(special, overwrite=True)


def test_report__leaves_nothing_where_it_cannot_be_written(fit, tmp_path, monkeypatch):
    pytest.importorskip("bokeh", reason="bokeh is not installed")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        koopscope.report(fit, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
