"""Workers read a recording from storage that speaks S3, each by itself."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import koopscope

distributed = pytest.importorskip("distributed", reason="needs dask: pip install 'koopscope[distributed]'")
moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: URLs cannot be opened")


@pytest.fixture
def bucket(monkeypatch):
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"endpoint_url": f"http://{host}:{port}", "key": "any", "secret": "any"}
    for name, value in settings.items():
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)  # how worker processes hear of it
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    fsspec.core.url_to_fs("s3://scale")[0].mkdir("scale")
    yield "s3://scale"
    server.stop()


@pytest.mark.filterwarnings("ignore")  # sockets of the client libraries are collected late
def test_fit__workers_read_a_recording_at_a_url(adadelta, bucket):
    url = f"{bucket}/run.zarr"
    files, root = fsspec.core.url_to_fs(url)
    files.put(f"{adadelta.attrs['source']}/", f"{root}/", recursive=True)
    run = koopscope.open_trajectory(url)
    alone = koopscope.fit(adadelta, "network")  # first: workers find its kernels compiled
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(processes=True, **settings) as cluster:
            shared = koopscope.fit(run, "network", scheduler=cluster.scheduler_address)
    for name, values in koopscope.predict(alone, 2500).items():
        np.testing.assert_allclose(koopscope.predict(shared, 2500)[name], values, rtol=1e-12, atol=1e-12)
