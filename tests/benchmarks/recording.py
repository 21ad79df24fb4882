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


def training(folder, every, steps, record):
    """Train a real MLP; give seconds of the loop, and those spent in recording."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(
            module
            for n_in, n_out in itertools.pairwise(MLP)
            for module in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU())
        )
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    images, labels = torch.randn(128, MLP[0]), torch.randint(0, MLP[-1], (128,))
    begin, inside = time.perf_counter(), []
    with record(folder, every) as keep:
        for step in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            start = time.perf_counter()
            keep(step, dict(net.named_parameters()))
            inside.append(time.perf_counter() - start)
        seconds = time.perf_counter() - begin
    return seconds, inside[1:]


class Nothing:
    """Records nothing: what the loop takes by itself."""

    def __init__(self, folder, every):
        self._every = every
        self._open(folder)

    def _open(self, folder):
        pass

    def _keep(self, step, tensors):
        pass

    def __enter__(self):
        return lambda step, tensors: None if step % self._every else self._keep(step, tensors)

    def __exit__(self, *_):
        pass


class PlainFile(Nothing):
    """Writes the same bytes to one file."""

    def _open(self, folder):
        self._path = folder / "plain.bin"
        self._file = self._path.open("wb", buffering=0)

    def _keep(self, step, tensors):
        for tensor in tensors.values():
            self._file.write(tensor.detach().numpy().data)

    def __exit__(self, *_):
        self._file.close()
        self._path.unlink()


class Recording(Nothing):
    """Records with koopscope; closing is not timed."""

    def _open(self, folder):
        self._path = folder / "mlp.zarr"
        self._writer = TrajectoryWriter(self._path, layout="torch")

    def _keep(self, step, tensors):
        self._writer.append(step, tensors)

    def __exit__(self, *_):
        self._writer.close()
        shutil.rmtree(self._path)


def training_loops(folder, every, steps, repeats):
    """Compare loops that record nothing, to a plain file, and with koopscope: in turns, each with its own."""
    kinds = (Nothing, PlainFile, Recording)
    seconds, inside = {kind: [] for kind in kinds}, {kind: [] for kind in kinds}
    for repeat in range(repeats):
        # The other way round every second time: what the machine does meanwhile favours none.
        for kind in kinds if repeat % 2 else kinds[::-1]:
            took, calls = training(folder, every, steps, kind)
            seconds[kind].append(took)
            inside[kind].append(calls[every - 1 :: every])
    alone = np.array(seconds[Nothing])
    step = np.median(alone) / steps * 1e6
    print(f"MLP {':'.join(map(str, MLP))}, every={every}: a step takes {step:.0f} us")
    for kind in kinds[1:]:
        slower = (np.array(seconds[kind]) / alone - 1) * 100
        low, middle, high = np.quantile(slower, (0.25, 0.5, 0.75))
        calls = np.concatenate(inside[kind]) * 1e6
        share = calls.sum() / 1e6 / alone.sum() * 100
        print(
            f"    {kind.__name__:9} loop {middle:+6.1f} % (quartiles {low:+.1f} to {high:+.1f}), in calls "
            f"{share:.1f} %; call median {np.median(calls):.0f} us, mean {calls.mean():.0f} us"
        )
    ratios = [
        [of(one) / of(other) for one, other in zip(inside[Recording], inside[PlainFile], strict=True)]
        for of in (np.median, np.mean)
    ]
    median, mean = (float(np.median(values)) for values in ratios)
    print(f"    append() against the plain file: median {median:.2f} x, mean {mean:.2f} x")


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
        # Several blocks, so that folding is part of the loop, and files are used again.
        training_loops(place, every=25, steps=25 * 64 * 3, repeats=4)
        training_loops(place, every=1, steps=64 * 6, repeats=9)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
