"""The training script of the oscillator recordings, and the recordings that are shipped."""

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from koopscope import inspect, open_trajectory

DATA = Path(__file__).parents[2] / "data"


def script(name):
    spec = importlib.util.spec_from_file_location(f"oscillator_{name}", DATA / "oscillator" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def row(trajectory, index):
    return {name: trajectory[name].values[index] for name in trajectory.data_vars if name != "loss"}


@pytest.fixture(scope="module")
def train():
    pytest.importorskip("torch", reason="torch is not installed: the recordings cannot be made again")
    return script("train")


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_main__recorded_loss_is_that_of_the_recorded_weights(train, tmp_path, suffix):
    kind = {"zarr": "zarr", "h5": "hdf5"}[suffix]
    options = "--optimizer adam --lr 1e-2 --decay 1e-3 --seeds 4:7 --steps 300 --record-last 100 --every 10"
    train.main([*options.split(), "--format", kind, "--out", str(tmp_path)])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"adam_seed00{seed}.{suffix}" for seed in (4, 5, 6)]
    loss = script("loss").loss
    for name in names:
        trajectory = open_trajectory(tmp_path / name)
        assert trajectory["step"].values.tolist() == list(range(200, 300, 10))
        computed = [loss(row(trajectory, index)) for index in range(10)]
        np.testing.assert_allclose(trajectory["loss"].values, computed, rtol=1e-5)
        assert computed[-1] < computed[0]


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("adagrad", 1e-2), ("adadelta", 0.1)])
def test_train__many_seeds_move_as_each_alone(train, optimizer, lr):
    import torch

    steps, decay, seeds = 60, 1e-2, [3, 4, 5]
    together = None
    for _, params, _ in train.train(seeds, optimizer=optimizer, lr=lr, decay=decay, steps=steps):
        together = {name: stack.detach().clone() for name, stack in params.items()}
    torch.manual_seed(4)
    layers = {"fc1": torch.nn.Linear(1, 10), "fc2": torch.nn.Linear(10, 10), "fc3": torch.nn.Linear(10, 2)}
    network = torch.nn.Sequential(
        layers["fc1"], torch.nn.Sigmoid(), layers["fc2"], torch.nn.Sigmoid(), layers["fc3"]
    )
    kinds = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "adadelta": torch.optim.Adadelta}
    optimiser = kinds[optimizer](network.parameters(), lr=lr)
    for iteration in range(steps - 1):
        optimiser.zero_grad()
        plain_loss(network).backward()
        optimiser.param_groups[0]["lr"] = lr / (1 + decay * iteration)
        optimiser.step()
    for layer, linear in layers.items():
        for part in ("weight", "bias"):
            alone = getattr(linear, part).detach()
            torch.testing.assert_close(together[f"{layer}.{part}"][1], alone, rtol=1e-4, atol=2e-5)


def plain_loss(network):
    """Compute the loss with derivatives by autograd, as one would write it first."""
    import torch

    times = torch.linspace(0, 4 * torch.pi, 200, dtype=torch.float64).float()[:, None].requires_grad_()
    rise = 1 - torch.exp(-times)
    states = torch.tensor([1.3, 1.0]) + rise * network(times)
    x, p = states[:, 0], states[:, 1]
    dx, dp = (torch.autograd.grad(values.sum(), times, create_graph=True)[0][:, 0] for values in (x, p))
    return (dx - p).square().mean() + (dp + x + x**3).square().mean()


@pytest.mark.parametrize(
    ("name", "kind"), [("oscillator_adadelta.zarr", "trajectory/1"), ("oscillator_adam.h5", "hdf5")]
)
def test_samples__are_what_the_readme_says(name, kind):
    table = inspect(DATA / name)
    assert table.attrs["format"] == kind
    assert table.attrs["layout"] == "torch"
    assert table.attrs["steps"] == 3000
    assert (table.attrs["first_step"], table.attrs["last_step"]) == (35_000, 49_995)
    assert table.attrs["spacing"] == 5
    assert table.attrs["weights"] == 152
    assert table["units"].values.tolist() == [10, 10, 10, 10, 2, 2]
    trajectory = open_trajectory(DATA / name)
    loss = script("loss").loss
    for index in (0, 1500, 2999):
        assert loss(row(trajectory, index)) == pytest.approx(trajectory["loss"].values[index], rel=1e-5)


def test_samples__have_the_checksums_of_the_readme():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    store = DATA / "oscillator_adadelta.zarr"
    files = sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256((store / file).read_bytes()).hexdigest()}  ./{file}\n" for file in files]
    assert f"{hashlib.sha256(''.join(lines).encode()).hexdigest()}  {store.name}" in readme
    plain = DATA / "oscillator_adam.h5"
    assert f"{hashlib.sha256(plain.read_bytes()).hexdigest()}  {plain.name}" in readme
