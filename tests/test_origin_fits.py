"""Stacked Gram matrices of a race against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from koopscope.origin_fits import embeddings
from koopscope.statistics import embed_delays


@pytest.mark.parametrize("delays", [(1, 5, 10, 20, 30), (2, 3, 7), (40,)])
def test_embeddings__are_sums_along_diagonals(delays):
    snapshots = np.random.default_rng(1).normal(size=(2, 38, 4))
    gram = snapshots @ snapshots.swapaxes(1, 2)
    found = embeddings(gram, delays)
    assert set(found) == {1, *(number for number in delays if number <= 37)}
    for number, stacked in found.items():
        np.testing.assert_allclose(stacked, embed_delays(gram, number), rtol=1e-12, atol=1e-12)
