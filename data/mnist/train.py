"""Train digit classifiers with PyTorch on minibatches, many seeds side by side, and record their weights.

    python data/mnist/train.py --digits mnist.npz --lr 0.1 --seeds 0:5 --out runs

The network is 784:20:20:20:10 with ReLU, the loss cross-entropy, the optimiser Adadelta, after Dogra & Redman
(NeurIPS 2020, arXiv:2006.02361). Parameters have a leading axis of seeds and the losses are summed over it:
as Adadelta works element by element, each seed moves exactly as it would alone, in its own order of digits.
Row i of a recording holds the weights after i updates, their ``loss`` on the first 10 000 training digits
and their ``validation_loss`` on the 10 000 test digits (see ``loss.py``), and the ``batch_loss`` of the next
update.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from koopscope import TrajectoryWriter

SIZES = (784, 20, 20, 20, 10)
LAYERS = {f"fc{k + 1}": (SIZES[k], SIZES[k + 1]) for k in range(4)}
SAMPLE = 10_000  # training digits whose loss is recorded
DECAY = 0.9  # Adadelta's rho; PyTorch's default


@dataclass(frozen=True)
class Digits:
    """Images of shape (digits, 784) between 0 and 1, and their labels."""

    images: Tensor
    labels: Tensor

    def head(self, count: int) -> Digits:
        """Keep the first so many."""
        return Digits(self.images[:count], self.labels[:count])


def read_digits(path: Path) -> tuple[Digits, Digits]:
    """Read the training and the test digits from an ``.npz`` of uint8 arrays."""
    with np.load(path, allow_pickle=False) as file:
        parts = [(file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "test")]
    train, test = (
        Digits(torch.from_numpy(x.reshape(len(x), -1)).float() / 255.0, torch.from_numpy(y.astype(np.int64)))
        for x, y in parts
    )
    return train, test


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


def batch_losses(params: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Give each seed's loss on digits of its own, (seeds, batch, 784) and (seeds, batch); shape (seeds,)."""
    value = images
    for layer in LAYERS:
        value = torch.baddbmm(params[f"{layer}.bias"].unsqueeze(1), value, params[f"{layer}.weight"].mT)
        if layer != "fc4":
            value = torch.relu(value)
    losses = nn.functional.cross_entropy(value.transpose(1, 2), labels, reduction="none")
    return losses.mean(1)


def shared_losses(params: dict[str, Tensor], digits: Digits) -> Tensor:
    """Give each seed's loss on the same digits; shape (seeds,)."""
    first = params["fc1.weight"]
    seeds, units = first.shape[:2]
    with torch.no_grad():
        # One product for all seeds: the images are read once.
        hidden = digits.images @ first.reshape(seeds * units, -1).T
        value = hidden.reshape(-1, seeds, units).transpose(0, 1) + params["fc1.bias"].unsqueeze(1)
        for layer in ("fc2", "fc3", "fc4"):
            bias, weight = params[f"{layer}.bias"].unsqueeze(1), params[f"{layer}.weight"].mT
            value = torch.baddbmm(bias, torch.relu(value), weight)
        labels = digits.labels.expand(seeds, -1)
        return nn.functional.cross_entropy(value.transpose(1, 2), labels, reduction="none").mean(1)


class Shuffles:
    """Each seed's own endless order of the training digits: epoch after epoch, shuffled anew."""

    def __init__(self, seeds: list[int], count: int, batch: int) -> None:
        """Begin the first epoch of every seed."""
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._count, self._batch, self._at = count, batch, count

    def next(self) -> Tensor:
        """Give the indices of the next minibatch, shape (seeds, batch)."""
        if self._at + self._batch > self._count:
            orders = [torch.randperm(self._count, generator=generator) for generator in self._generators]
            self._orders, self._at = torch.stack(orders), 0
        self._at += self._batch
        return self._orders[:, self._at - self._batch : self._at]


def train(
    seeds: list[int], digits: Digits, *, lr: float, decay: float, steps: int, batch: int
) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
    """Train, and yield (iteration, weights, batch losses) before each update; the weights are live."""
    params = initial_parameters(seeds)
    shuffles = Shuffles(seeds, len(digits.labels), batch)
    optimiser = torch.optim.Adadelta(params.values(), lr=lr, rho=DECAY, foreach=True)
    (group,) = optimiser.param_groups
    for iteration in range(steps):
        chosen = shuffles.next()
        losses = batch_losses(params, digits.images[chosen], digits.labels[chosen])
        yield iteration, params, losses.detach()
        optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        group["lr"] = lr / (1.0 + decay * iteration)
        optimiser.step()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train digit classifiers and record their weights.")
    parser.add_argument("--digits", type=Path, required=True, help=".npz of x_train, y_train, x_test, y_test")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate of iteration 0")
    parser.add_argument("--decay", type=float, default=0.0, help="the rate is lr / (1 + decay * iteration)")
    parser.add_argument("--seeds", default="0:5", help="one seed, or first:last+1")
    parser.add_argument("--batch", type=int, default=100, help="digits in a minibatch")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--record-last", type=int, default=3_000, help="iterations recorded, at the end")
    parser.add_argument("--every", type=int, default=1, help="record every so many iterations")
    parser.add_argument("--out", type=Path, required=True, help="folder; mnist_seed007.zarr and so on")
    parser.add_argument("--block-steps", type=int, default=250, help="rows in a Zarr chunk")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train and record as the command line says."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    first, _, stop = options.seeds.partition(":")
    seeds = list(range(int(first), int(stop) if stop else int(first) + 1))
    options.out.mkdir(parents=True, exist_ok=True)
    training, validation = read_digits(options.digits)
    sample = training.head(SAMPLE)
    start, began = options.steps - options.record_last, time.perf_counter()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                TrajectoryWriter(
                    options.out / f"mnist_seed{seed:03}.zarr",
                    layout="torch",
                    framework="torch",
                    block_steps=options.block_steps,
                )
            )
            for seed in seeds
        ]
        rows = train(
            seeds, training, lr=options.lr, decay=options.decay, steps=options.steps, batch=options.batch
        )
        for iteration, params, losses in rows:
            if iteration >= start and (iteration - start) % options.every == 0:
                weights = {name: stack.detach().numpy() for name, stack in params.items()}
                series = (losses, shared_losses(params, sample), shared_losses(params, validation))
                columns = zip(*(values.tolist() for values in series), strict=True)
                for seed, (writer, figures) in enumerate(zip(writers, columns, strict=True)):
                    metrics = dict(zip(("batch_loss", "loss", "validation_loss"), figures, strict=True))
                    writer.append(iteration, {name: s[seed] for name, s in weights.items()}, **metrics)
            if (iteration + 1) % max(options.steps // 20, 1) == 0:
                seconds, share = time.perf_counter() - began, 100 * (iteration + 1) // options.steps
                sys.stderr.write(f"{share} %: median batch loss {losses.median():.3g}, {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
