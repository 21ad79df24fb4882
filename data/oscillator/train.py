"""Train oscillator networks with PyTorch, many seeds side by side, and record their weights.

    python data/oscillator/train.py --optimizer adadelta --lr 0.1 --decay 1e-5 --seeds 0:25 --out runs

The network and its loss are those of ``loss.py`` beside this file, in float32. Parameters have a leading
axis of seeds and the losses are summed over it: as the optimisers work element by element, each seed moves
exactly as it would alone. Row i of a recording holds the weights after i updates, and their own loss.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from koopscope import TrajectoryWriter

LAYERS = {"fc1": (1, 10), "fc2": (10, 10), "fc3": (10, 2)}
START = (1.3, 1.0)


def initial_parameters(seeds: list[int]) -> dict[str, Tensor]:
    """Stack PyTorch's default initialisation of each seed: (seeds, out, in) and (seeds, out)."""
    stacks: dict[str, list[Tensor]] = {}
    for seed in seeds:
        torch.manual_seed(seed)
        for layer, (inputs, outputs) in LAYERS.items():
            linear = nn.Linear(inputs, outputs)
            stacks.setdefault(f"{layer}.weight", []).append(linear.weight.detach())
            stacks.setdefault(f"{layer}.bias", []).append(linear.bias.detach())
    return {name: torch.stack(tensors).requires_grad_() for name, tensors in stacks.items()}


class Residuals:
    """Losses of all seeds at once; time derivatives are carried along by hand (forward mode)."""

    def __init__(self, seeds: int) -> None:
        """Lay out the 200 points in time for so many seeds."""
        times = torch.linspace(0.0, 4.0 * torch.pi, 200, dtype=torch.float64)
        self._times = times.float().reshape(1, -1, 1).expand(seeds, -1, -1)
        self._fall = torch.exp(-times).float().reshape(1, -1, 1)
        self._rise = (1.0 - torch.exp(-times)).float().reshape(1, -1, 1)
        self._start = torch.tensor(START).reshape(1, 1, 2)

    def losses(self, params: dict[str, Tensor]) -> Tensor:
        """Give the loss of each seed, shape (seeds,)."""
        value = torch.baddbmm(params["fc1.bias"].unsqueeze(1), self._times, params["fc1.weight"].mT)
        # dt/dt = 1, so the first layer's slope is its weight at every time.
        slope = params["fc1.weight"].mT
        for layer in ("fc2", "fc3"):
            value = torch.sigmoid(value)
            slope = (value - value * value) * slope
            weight = params[f"{layer}.weight"].mT
            value = torch.baddbmm(params[f"{layer}.bias"].unsqueeze(1), value, weight)
            slope = torch.bmm(slope, weight)
        state = torch.addcmul(self._start, self._rise, value)
        change = self._fall * value + self._rise * slope
        x, p = state.unbind(2)
        dx, dp = change.unbind(2)
        return (dx - p).square().mean(1) + (dp + x + x * x * x).square().mean(1)


def make_optimizer(name: str, params: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Make the optimiser in its fastest form for the CPU."""
    if name == "adam":
        return torch.optim.Adam(params, lr=lr, fused=True)
    if name == "adagrad":
        return torch.optim.Adagrad(params, lr=lr, fused=True)
    return torch.optim.Adadelta(params, lr=lr, foreach=True)


def train(
    seeds: list[int], *, optimizer: str, lr: float, decay: float, steps: int
) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
    """Train, and yield (iteration, weights, losses) before each update; the weights are live, not copies."""
    params = initial_parameters(seeds)
    residuals = Residuals(len(seeds))
    optimiser = make_optimizer(optimizer, list(params.values()), lr)
    (group,) = optimiser.param_groups
    for iteration in range(steps):
        losses = residuals.losses(params)
        yield iteration, params, losses.detach()
        optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        group["lr"] = lr / (1.0 + decay * iteration)
        optimiser.step()


class ZarrRecorder(contextlib.ExitStack):
    """Record each seed into a store of its own through koopscope; a failing run keeps its rows."""

    def __init__(self, paths: list[Path], block_steps: int) -> None:
        """Open one writer a seed."""
        super().__init__()
        self._writers = [
            self.enter_context(
                TrajectoryWriter(path, layout="torch", framework="torch", block_steps=block_steps)
            )
            for path in paths
        ]

    def append(self, iteration: int, weights: dict[str, np.ndarray[Any, Any]], losses: list[float]) -> None:
        """Append one row to every store."""
        for seed, writer in enumerate(self._writers):
            writer.append(
                iteration, {name: stack[seed] for name, stack in weights.items()}, loss=losses[seed]
            )


class Hdf5Recorder(contextlib.AbstractContextManager["Hdf5Recorder"]):
    """Record each seed into a plain HDF5 file, as any program might that never heard of koopscope."""

    def __init__(self, paths: list[Path]) -> None:
        """Remember the files; they are written on closing."""
        self._paths = paths
        self._steps: list[int] = []
        self._losses: list[list[float]] = []
        self._weights: dict[str, list[np.ndarray[Any, Any]]] = {}

    def append(self, iteration: int, weights: dict[str, np.ndarray[Any, Any]], losses: list[float]) -> None:
        """Keep one row of every seed."""
        self._steps.append(iteration)
        self._losses.append(losses)
        for name, stack in weights.items():
            self._weights.setdefault(name, []).append(stack.copy())

    def __exit__(self, *_: object) -> None:
        """Write the files, whatever ended the training."""
        options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        for seed, path in enumerate(self._paths if self._steps else []):
            with h5py.File(path, "x") as file:
                file.create_dataset("step", data=np.array(self._steps), **options)
                file.create_dataset("loss", data=np.array(self._losses)[:, seed], **options)
                for name, rows in self._weights.items():
                    values = np.stack([row[seed] for row in rows])
                    file.create_dataset(name, data=values, chunks=(len(rows), *values.shape[1:]), **options)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train oscillator networks and record their weights.")
    parser.add_argument("--optimizer", choices=("adam", "adagrad", "adadelta"), required=True)
    parser.add_argument("--lr", type=float, required=True, help="learning rate of iteration 0")
    parser.add_argument("--decay", type=float, default=0.0, help="the rate is lr / (1 + decay * iteration)")
    parser.add_argument("--seeds", default="0:25", help="one seed, or first:last+1")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--record-last", type=int, default=15_000, help="iterations recorded, at the end")
    parser.add_argument("--every", type=int, default=1, help="record every so many iterations")
    parser.add_argument("--out", type=Path, required=True, help="folder; <optimizer>_seed007.zarr and so on")
    parser.add_argument("--format", choices=("zarr", "hdf5"), default="zarr")
    parser.add_argument("--block-steps", type=int, default=500, help="rows in a Zarr chunk")
    return parser.parse_args(arguments)


def record(
    rows: Iterator[tuple[int, dict[str, Tensor], Tensor]],
    recorder: ZarrRecorder | Hdf5Recorder,
    options: argparse.Namespace,
) -> None:
    """Run the training, hand on the rows that are asked for, and say how far it is."""
    start = options.steps - options.record_last
    began = time.perf_counter()
    for iteration, params, losses in rows:
        if iteration >= start and (iteration - start) % options.every == 0:
            weights = {name: stack.detach().numpy() for name, stack in params.items()}
            recorder.append(iteration, weights, losses.tolist())
        if (iteration + 1) % max(options.steps // 10, 1) == 0:
            seconds = time.perf_counter() - began
            share = 100 * (iteration + 1) // options.steps
            sys.stderr.write(f"{share} %: median loss {losses.median():.3g}, {seconds:.0f} s\n")


def main(arguments: list[str] | None = None) -> None:
    """Train and record as the command line says."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    first, _, stop = options.seeds.partition(":")
    seeds = list(range(int(first), int(stop) if stop else int(first) + 1))
    suffix = "zarr" if options.format == "zarr" else "h5"
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [options.out / f"{options.optimizer}_seed{seed:03}.{suffix}" for seed in seeds]
    zarr = options.format == "zarr"
    rows = train(seeds, optimizer=options.optimizer, lr=options.lr, decay=options.decay, steps=options.steps)
    with ZarrRecorder(paths, options.block_steps) if zarr else Hdf5Recorder(paths) as recorder:
        record(rows, recorder, options)


if __name__ == "__main__":
    main()
