"""Statistics from worker processes: the same numbers, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pytest

import koopscope
from koopscope.errors import UsageError
from koopscope.simulation import linear_run
from koopscope.statistics import shares
from koopscope.statistics.collecting import collect_share

distributed = pytest.importorskip("distributed", reason="needs dask: pip install 'koopscope[distributed]'")

# Sockets and processes of dask's own may be collected late; they are not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(processes=True, **settings) as cluster:
            yield cluster


@pytest.mark.parametrize(
    ("partition", "settings"),
    [("node", {}), ("node,fc1=quasi-node:3", {"pairs": "every"}), ("layer", {"delays": 3}), ("network", {})],
)
def test_collect__on_a_cluster_gives_the_same_numbers(cluster, adadelta, partition, settings):
    alone = koopscope.collect(adadelta, partition, **settings)
    shared = koopscope.collect(adadelta, partition, scheduler=cluster.scheduler_address, **settings)
    assert shared.grid.fingerprint == alone.grid.fingerprint
    assert shared.grid.increment_correlation == pytest.approx(alone.grid.increment_correlation, rel=1e-12)
    for one, other in zip(alone.blocks, shared.blocks, strict=True):
        assert np.array_equal(one.block.members, other.block.members)
        assert type(one.kind) is type(other.kind)
        for name, expected in vars(one.kind).items():
            found = getattr(other.kind, name)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("partition", ["node", "quasi-node:3", "weight", "layer", "network"])
def test_collect__a_large_layer_is_shared_out(cluster, adadelta, partition, monkeypatch):
    monkeypatch.setattr(shares, "SHARE_BYTES", 1)
    heard = []
    alone = koopscope.collect(adadelta, partition)
    settings = {"scheduler": cluster.scheduler_address, "progress": lambda *event: heard.append(event)}
    shared = koopscope.collect(adadelta, partition, **settings)
    parts = max(total for stage, _, total in heard if stage == "collecting shares")
    assert parts > len({block.block.layer for block in koopscope.collect(adadelta, "layer").blocks})
    for name in ("snapshots", "last", "slope"):
        np.testing.assert_array_equal(getattr(shared.grid, name), getattr(alone.grid, name))
    for one, other in zip(alone.blocks, shared.blocks, strict=True):
        for name, expected in vars(one.kind).items():
            found = getattr(other.kind, name)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_fit__on_a_cluster_forecasts_the_same(cluster, adadelta):
    alone = koopscope.predict(koopscope.fit(adadelta, "node"), 2500)
    shared = koopscope.predict(koopscope.fit(adadelta, "node", scheduler=cluster.scheduler_address), 2500)
    for name in alone:
        np.testing.assert_allclose(shared[name], alone[name], rtol=1e-12, atol=1e-12)


def die_once(share, mark):
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return collect_share(share)


def test_fit__survives_a_worker_that_is_killed(cluster, adadelta, monkeypatch, tmp_path):
    from functools import partial

    mark = str(tmp_path / "died")
    monkeypatch.setattr("koopscope.statistics.collecting.collect_share", partial(die_once, mark=mark))
    shared = koopscope.collect(adadelta, "node", scheduler=cluster.scheduler_address)
    alone = koopscope.collect(adadelta, "node")
    assert os.path.exists(mark)
    for one, other in zip(alone.blocks, shared.blocks, strict=True):
        np.testing.assert_array_equal(one.kind.factors, other.kind.factors)


@pytest.mark.parametrize("partition", ["network", "correlated:2"])
def test_collect__what_cannot_be_shared_out(adadelta, partition):
    with pytest.raises(UsageError, match="scheduler"):
        koopscope.collect(adadelta, partition, lag=5, scheduler="local")


def test_collect__arrays_in_memory_cannot_be_opened_by_workers():
    with pytest.raises(UsageError, match="arrays in memory"):
        koopscope.collect(linear_run(), scheduler="local")
