"""Is it rounding that limits a forecast? python tests/studies/rounding.py OPTIMIZER LR DECAY [SEEDS].

Oscillator networks are trained as ``data/oscillator/train.py`` does it, in float32, up to the end of the
window that forecasts are judged on (45 000 updates). From there each goes on twice more: with every weight
moved to a neighbouring float32 number, and in float64, weights and state of the optimiser alike. Printed is,
by lead, how far these depart from the run itself, over how far the run moves: no forecast from float32
snapshots can be expected to err by much less than the second. SEEDS, 12 by default, are the first ones.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "data" / "oscillator"))
import train

UPDATES, LEADS = 45_000, (1, 10, 100, 500, 1000, 2500)


class Training:
    """One batch of networks, and all that is needed to go on with it."""

    def __init__(self, params, optimizer, lr, decay, dtype, state=None):
        self.params = {name: stack.detach().to(dtype).requires_grad_() for name, stack in params.items()}
        self.residuals = train.Residuals(len(next(iter(params.values()))))
        for name, value in vars(self.residuals).items():
            setattr(self.residuals, name, value.to(dtype))
        self.optimiser = train.make_optimizer(optimizer, list(self.params.values()), lr)
        self.rule = optimizer, lr, decay
        if state is not None:
            self.optimiser.load_state_dict(copy.deepcopy(state))

    def update(self, iteration):
        """Make one update."""
        _, lr, decay = self.rule
        losses = self.residuals.losses(self.params)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimiser.param_groups[0]["lr"] = lr / (1.0 + decay * iteration)
        self.optimiser.step()

    def twin(self, dtype, params=None):
        """Copy weights and state, in another precision or from other weights."""
        return Training(params or self.params, *self.rule, dtype, self.optimiser.state_dict())

    def weights(self):
        """All weights, one row a network."""
        stacks = [stack.detach().double().numpy() for stack in self.params.values()]
        return np.concatenate([stack.reshape(len(stack), -1) for stack in stacks], axis=1)


def neighbours(params):
    """Move every weight to the next float32 number, up or down at random."""
    random = torch.Generator().manual_seed(0)
    moved = {}
    for name, stack in params.items():
        up = torch.rand(stack.shape, generator=random) < 0.5
        towards = torch.where(up, torch.inf, -torch.inf)
        moved[name] = torch.nextafter(stack.detach(), towards)
    return moved


def main():
    """Print a line a lead."""
    torch.set_num_threads(1)
    optimizer, lr, decay = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    seeds = list(range(int(sys.argv[4]) if len(sys.argv) > 4 else 12))
    run = Training(train.initial_parameters(seeds), optimizer, lr, decay, torch.float32)
    for iteration in range(UPDATES):
        run.update(iteration)
    start = run.weights()
    moved, wide = run.twin(torch.float32, neighbours(run.params)), run.twin(torch.float64)
    for lead in range(1, LEADS[-1] + 1):
        for training in (run, moved, wide):
            training.update(UPDATES + lead - 1)
        if lead in LEADS:
            evolution = np.linalg.norm(run.weights() - start, axis=1)
            shares = [
                np.median(np.linalg.norm(twin.weights() - run.weights(), axis=1) / evolution)
                for twin in (moved, wide)
            ]
            line = f"lead {lead:4}: neighbours {shares[0]:.1e}, float64 {shares[1]:.1e} of the evolution"
            print(line, flush=True)


if __name__ == "__main__":
    main()
