"""What recording costs: python tests/benchmarks/recording.py [FOLDER]. The folder needs 7 GB; needs torch.

Nothing is removed before the end: for minutes after files were removed, ext4 takes longer to make new ones.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import threading
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
    writer = TrajectoryWriter(folder / f"run{n_bytes}.zarr", layout="torch")
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

    def run(self, steps, every, keep):
        """Train, and keep each so-manieth row; give the seconds of all, and those of each call."""
        calls, begin = [], time.perf_counter()
        for _ in range(steps):
            self._optimizer.zero_grad()
            self._torch.nn.functional.cross_entropy(self._net(self._images), self._labels).backward()
            self._optimizer.step()
            step = next(self._steps)
            if step % every == every - 1:
                start = time.perf_counter()
                keep(step, dict(self._net.named_parameters()))
                calls.append(time.perf_counter() - start)
        return time.perf_counter() - begin, calls


def folds():
    """Tell whether a journal is being folded."""
    return any(thread.name == "koopscope-fold" for thread in threading.enumerate())


def training_loops(folder, every, rows, blocks):
    """Compare pieces of one training that record nothing, with koopscope, and to a plain file, in turns.

    What a machine does besides changes within seconds, so pieces are short, and each is held against those
    beside it that record nothing. The first row of every block completes the one before, so that the folding
    of a block begins with a piece; where it is not done by the end of it, the piece goes on until it is,
    without recording.

    Parameters
    ----------
    folder
        Where to record.
    every
        Steps from one row to the next.
    rows
        Rows in a piece, which divide a quarter of a block.
    blocks
        Blocks of rows to record.
    """
    training, steps = Training(), rows * every
    pieces = {"append()": [], "plain file": []}
    writer = TrajectoryWriter(folder / f"mlp{every}.zarr", layout="torch", block_steps=BLOCK)
    with writer, (folder / f"plain{every}.bin").open("wb", buffering=0) as file:

        def nothing(*_):
            pass

        def write(_, tensors):
            for tensor in tensors.values():
                file.write(tensor.detach().numpy().data)

        keeping = {"append()": writer.append, "plain file": write}
        training.run((BLOCK - 1) * every, every, writer.append)
        before, _ = training.run(steps, every, nothing)
        for kind in (*["append()"] * 4, "plain file") * (blocks * BLOCK // rows // 4):
            seconds, calls = training.run(steps, every, keeping[kind])
            taken = steps
            while folds():
                seconds += training.run(1, every, nothing)[0]
                taken += 1
            after, _ = training.run(steps, every, nothing)
            a_step = (before + after) / 2 / steps
            pieces[kind].append((seconds - taken * a_step, steps * a_step, calls))
            before = after
    tell(every, pieces, blocks)


def tell(every, pieces, blocks):
    """Print how much slower training was, the median of all blocks, and what a call took."""
    calls = {}
    for kind, listed in pieces.items():
        excess, alone, spent = (np.array(part).reshape(blocks, -1) for part in zip(*listed, strict=True))
        calls[kind] = spent * 1e6
        if kind == "append()":
            a_step = np.median(alone.sum(axis=1)) / BLOCK / every
            print(f"MLP {':'.join(map(str, MLP))}, every={every}: a step takes {a_step * 1e6:.0f} us")
        low, middle, high = np.quantile(excess.sum(axis=1) / alone.sum(axis=1) * 100, (0.25, 0.5, 0.75))
        # 95 % interval of a median: McGill, Tukey and Larsen 1978, doi:10.1080/00031305.1978.10479236
        print(
            f"    {kind:10} {middle:+6.1f} % +- {1.57 * (high - low) / blocks**0.5:.1f}; "
            f"call median {np.median(calls[kind]):.0f} us, mean {calls[kind].mean():.0f} us"
        )
    for name, of in (("median", np.median), ("mean", np.mean)):
        ratios = of(calls["append()"], axis=1) / of(calls["plain file"], axis=1)
        print(f"    append() against the plain file, {name} of a block: {np.median(ratios):.2f} x")


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
        training_loops(place, every=25, rows=2, blocks=12)
        training_loops(place, every=1, rows=16, blocks=40)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
