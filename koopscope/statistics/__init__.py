"""From a trajectory to small statistics, in one pass over the weights.

``windows`` settles which rows count, ``reading`` reads them in blocks, ``grid`` keeps snapshots of them,
``triangle``, ``gram`` and ``moments`` compress them per group, ``collecting`` puts these together. May
import the trajectory, partition and kernels; knows nothing of operators.
"""

from koopscope.statistics.collecting import METHODS, BlockStatistics, Statistics, collect
from koopscope.statistics.gram import IncrementGrams, embed_delays, gram_about_last
from koopscope.statistics.grid import Grid
from koopscope.statistics.moments import LaggedMoments
from koopscope.statistics.triangle import PairTriangles, SnapshotTriangles, r_factor
from koopscope.statistics.windows import Window, choose_window

__all__ = [
    "METHODS",
    "BlockStatistics",
    "Grid",
    "IncrementGrams",
    "LaggedMoments",
    "PairTriangles",
    "SnapshotTriangles",
    "Statistics",
    "Window",
    "choose_window",
    "collect",
    "embed_delays",
    "gram_about_last",
    "r_factor",
]
