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


def training_loops(folder, repeats=3):
    """Compare loops that record nothing, to a plain file, and with koopscope, in turns."""
    for every, steps in ((25, 250), (1, 100)):
        seconds = {kind: [] for kind in (Nothing, PlainFile, Recording)}
        inside = {kind: [] for kind in seconds}
        for _ in range(repeats):
            for kind in seconds:
                took, calls = training(folder, every, steps, kind)
                seconds[kind].append(took)
                inside[kind].extend(calls[every - 1 :: every])
        base = statistics.median(seconds[Nothing])
        call = {kind: statistics.median(calls) for kind, calls in inside.items()}
        mean = {kind: statistics.fmean(calls) for kind, calls in inside.items()}
        for kind in (PlainFile, Recording):
            print(
                f"MLP {':'.join(map(str, MLP))}, every={every}: {kind.__name__:9} loop "
                f"{(statistics.median(seconds[kind]) / base - 1) * 100:+6.1f} %, call median "
                f"{call[kind] * 1e6:7.1f} us, mean {mean[kind] * 1e6:7.1f} us"
            )
        ratios = call[Recording] / call[PlainFile], mean[Recording] / mean[PlainFile]
        print(f"    append() against the plain file: median {ratios[0]:.2f} x, mean {ratios[1]:.2f} x")
        print(f"    a step by itself: {base / steps * 1e6:.0f} us")


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
        training_loops(place)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
