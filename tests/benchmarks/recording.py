"""What recording costs: python tests/benchmarks/recording.py [FOLDER]. The folder needs 3 GB; needs torch."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from koopscope import TrajectoryWriter

MLP = (784, 256, 256, 10)
BLOCK = 64  # rows


def layers(widths):
    """Draw the weights of a dense network."""
    random = np.random.default_rng(0)
    row = {}
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        row[f"fc{index}.weight"] = random.normal(size=(n_out, n_in)).astype("float32") * 0.05
        row[f"fc{index}.bias"] = np.zeros(n_out, "float32")
    return row


def walk(row, random):
    """Move all weights a little, as a step of training does."""
    for values in row.values():
        values += random.normal(size=values.shape).astype("float32") * 1e-4


def append_and_fold(folder, widths, rows):
    """Time append() alone, then from the last append() to the end of close(), which folds what is left."""
    row, random = layers(widths), np.random.default_rng(1)
    n_bytes = sum(values.nbytes for values in row.values())
    spent = []
    writer = TrajectoryWriter(folder / "run.zarr", layout="torch")
    for step in range(rows):
        walk(row, random)
        begin = time.perf_counter()
        writer.append(step, row, loss=0.5)
        spent.append(time.perf_counter() - begin)
    writer.close()
    print(
        f"append, {n_bytes // 4:>9} parameters: median {statistics.median(spent[1:]) * 1e6:8.1f} us, "
        f"95 % {np.quantile(spent[1:], 0.95) * 1e6:8.1f} us, worst {max(spent[1:]) * 1e6:9.1f} us"
    )
    shutil.rmtree(folder / "run.zarr")


def folding(folder, rows=256):
    """Time the folding of full journals into the store, nothing else running."""
    row, random = layers(MLP), np.random.default_rng(1)
    n_bytes = rows * sum(values.nbytes for values in row.values())
    writer = TrajectoryWriter(folder / "fold.zarr", layout="torch", block_steps=rows)
    for step in range(rows - 1):
        walk(row, random)
        writer.append(step, row)
    begin = time.perf_counter()
    writer.commit()
    seconds = time.perf_counter() - begin
    print(f"folding {n_bytes / 1e6:.0f} MB: {n_bytes / 1e6 / seconds:.0f} MB/s")
    writer.close()
    shutil.rmtree(folder / "fold.zarr")


class Training:
    """A real MLP in training."""

    def __init__(self):
        import torch

        torch.manual_seed(0)
        self._torch = torch
        self._net = torch.nn.Sequential(
            *(
                module
                for n_in, n_out in itertools.pairwise(MLP)
                for module in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU())
            )
        )
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=0.01)
        self._images, self._labels = torch.randn(128, MLP[0]), torch.randint(0, MLP[-1], (128,))
        self._steps = itertools.count()

    def run(self, every, keep):
        """Train for as many steps as make a block of rows; give its seconds, and those of each call."""
        calls, begin = [], time.perf_counter()
        for _ in range(BLOCK * every):
            self._optimizer.zero_grad()
            self._torch.nn.functional.cross_entropy(self._net(self._images), self._labels).backward()
            self._optimizer.step()
            step = next(self._steps)
            if step % every == 0:
                start = time.perf_counter()
                keep(step, dict(self._net.named_parameters()))
                calls.append(time.perf_counter() - start)
        return time.perf_counter() - begin, calls


def training_loops(folder, every, cycles):
    """Compare stretches of one training that record nothing, to a plain file, and with koopscope, in turns.

    A stretch is a block of rows. One that is recorded and not timed comes before one that is, so that the
    latter has the folding of a whole block beside it.
    """
    training, rounds = Training(), {kind: [] for kind in ("nothing", "plain file", "append()")}
    writer = TrajectoryWriter(folder / "mlp.zarr", layout="torch", block_steps=BLOCK)
    with writer, (folder / "plain.bin").open("wb", buffering=0) as file:

        def write(_, tensors):
            for tensor in tensors.values():
                file.write(tensor.detach().numpy().data)

        keeping = {"nothing": lambda *_: None, "plain file": write, "append()": writer.append}
        training.run(every, writer.append)  # makes the store
        for cycle in range(cycles):
            # The other way round every second time: what the machine does meanwhile favours none.
            for kind in list(rounds)[:: 1 if cycle % 2 else -1]:
                if kind == "append()":
                    training.run(every, writer.append)
                rounds[kind].append(training.run(every, keeping[kind]))
                writer.commit()
    tell(every, rounds)
    shutil.rmtree(folder / "mlp.zarr")
    (folder / "plain.bin").unlink()


def tell(every, rounds):
    """Print how much slower the stretches were, and what a call took."""
    alone = np.array([seconds for seconds, _ in rounds.pop("nothing")])
    steps = BLOCK * every
    print(
        f"MLP {':'.join(map(str, MLP))}, every={every}: a step takes {np.median(alone) / steps * 1e6:.0f} us"
    )
    calls = {kind: np.array([each for _, each in runs]) * 1e6 for kind, runs in rounds.items()}
    for kind, runs in rounds.items():
        slower = (np.array([seconds for seconds, _ in runs]) / alone - 1) * 100
        low, middle, high = np.quantile(slower, (0.25, 0.5, 0.75))
        print(
            f"    {kind:10} {middle:+6.1f} % (quartiles {low:+.1f} to {high:+.1f}); call median "
            f"{np.median(calls[kind]):.0f} us, mean {calls[kind].mean():.0f} us"
        )
    for name, of in (("median", np.median), ("mean", np.mean)):
        ratios = of(calls["append()"], axis=1) / of(calls["plain file"], axis=1)
        print(f"    append() against the plain file, {name} of a stretch: {np.median(ratios):.2f} x")


def main():
    """Run all, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=None, type=Path)
    place = Path(tempfile.mkdtemp(dir=parser.parse_args().folder))
    print(f"{os.cpu_count()} cores")
    try:
        append_and_fold(place, (128, 128, 26), 1500)
        append_and_fold(place, (1000, 900, 110), 300)
        folding(place)
        training_loops(place, every=25, cycles=8)
        training_loops(place, every=1, cycles=24)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
