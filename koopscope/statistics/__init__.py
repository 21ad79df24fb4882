"""From a trajectory to small statistics, in one pass over the weights.

``windows`` settles which rows count; ``strips`` reads them strip by strip of columns, of which ``gathering``
keeps the ``grid`` of snapshots; ``reading`` reads them in blocks of rows, for sums over every pair;
``triangle``, ``gram`` and ``moments`` compress them per group; ``shares`` and ``distribution`` hand them to
workers; ``collecting`` puts these together. May import the trajectory, partition and kernels; knows
nothing of operators.
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
