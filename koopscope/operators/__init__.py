"""From statistics to operators: one file a method, all returning `Operators`.

Plain arrays in and out, batched over the groups of a block; no trajectory, no xarray, no files. May
import the statistics and kernels only.
"""

from koopscope.kernels.small_svd import LARGEST as LARGEST_SMALL
from koopscope.operators.affine import solve_affine
from koopscope.operators.baselines import baseline_displacements, straight_operators
from koopscope.operators.batches import MANY_GROUPS, in_batches
from koopscope.operators.coarsening import coarsen
from koopscope.operators.delay import GramModes, ReducedOperators, increment_scale, solve_delay
from koopscope.operators.estimators import ESTIMATORS
from koopscope.operators.every_pair import solve_every_pair
from koopscope.operators.mixture import mix_operators
from koopscope.operators.model import Floats, Operators, apply
from koopscope.operators.optimised import LARGEST_RANK as LARGEST_RANK_OPTIMISED
from koopscope.operators.optimised import optimise
from koopscope.operators.paper import solve_paper, solve_paper_wide
from koopscope.operators.small_affine import solve_small_affine
from koopscope.operators.stepping import states_at

__all__ = [
    "ESTIMATORS",
    "LARGEST_RANK_OPTIMISED",
    "LARGEST_SMALL",
    "MANY_GROUPS",
    "Floats",
    "GramModes",
    "Operators",
    "ReducedOperators",
    "apply",
    "baseline_displacements",
    "coarsen",
    "in_batches",
    "increment_scale",
    "mix_operators",
    "optimise",
    "solve_affine",
    "solve_delay",
    "solve_every_pair",
    "solve_paper",
    "solve_paper_wide",
    "solve_small_affine",
    "states_at",
    "straight_operators",
]
