"""The training script of the digit classifiers and the tables made of it, on digits of noise."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from koopscope import open_trajectory

DATA = Path(__file__).parents[2] / "data"


def script(path):
    spec = importlib.util.spec_from_file_location(f"script_{path.replace('/', '_')}", DATA / f"{path}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train():
    pytest.importorskip("torch", reason="torch is not installed: the classifiers cannot be trained")
    return script("mnist/train")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Write 300 and 100 digits whose label is how bright they are."""
    random = np.random.default_rng(6)
    arrays = {}
    for part, count in (("train", 300), ("test", 100)):
        labels = random.integers(0, 10, count)
        images = np.clip(random.normal(20 * labels[:, None], 10, (count, 784)), 0, 255)
        arrays |= {
            f"x_{part}": images.reshape(-1, 28, 28).astype(np.uint8),
            f"y_{part}": labels.astype(np.uint8),
        }
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, **arrays)
    return path


def test_main__recorded_losses_are_those_of_the_recorded_weights(train, digits, tmp_path, monkeypatch):
    options = ["--lr", "1", "--seeds", "3:5", "--steps", "40", "--record-last", "20", "--batch", "30"]
    train.main([*options, "--digits", str(digits), "--out", str(tmp_path)])
    monkeypatch.setenv("MNIST_DIGITS", str(digits))
    losses = script("mnist/loss")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnist_seed003.zarr", "mnist_seed004.zarr"]
    for path in tmp_path.iterdir():
        run = open_trajectory(path)
        assert run["step"].values.tolist() == list(range(20, 40))
        assert run["fc1.weight"].shape == (20, 20, 784)
        for index in (0, 19):
            row = {name: run[name].values[index] for name in run.data_vars if name.startswith("fc")}
            assert losses.loss(row) == pytest.approx(run["loss"].values[index], rel=1e-4)
            assert losses.validation_loss(row) == pytest.approx(
                run["validation_loss"].values[index], rel=1e-4
            )
            assert losses.full_training_loss(row) == losses.loss(row)  # there are fewer than 10 000
        assert run["loss"].values[-1] < run["loss"].values[0]
        assert np.isfinite(run["batch_loss"].values).all()


def test_train__many_seeds_move_as_each_alone(train, digits):
    import torch

    training, _ = train.read_digits(digits)
    settings = {"lr": 0.5, "decay": 0.0, "steps": 25, "batch": 40}
    last = {}
    for seeds in ([7, 8, 9], [8]):
        for _, params, _ in train.train(seeds, training, **settings):
            last[len(seeds)] = {name: stack.detach().clone() for name, stack in params.items()}
    for name, stack in last[3].items():
        # float32 sums in another order, carried along for 24 updates.
        torch.testing.assert_close(stack[1], last[1][name][0], rtol=1e-4, atol=1e-5)


def test_train__one_step_is_that_of_a_plain_module(train, digits):
    import torch

    training, _ = train.read_digits(digits)
    rows = [
        {name: stack.detach().clone()[0] for name, stack in params.items()}
        for _, params, _ in train.train([4], training, lr=0.5, decay=0.0, steps=2, batch=40)
    ]
    layers = {name: torch.nn.Linear(*sizes) for name, sizes in train.LAYERS.items()}
    network = torch.nn.ModuleDict(layers)
    network.load_state_dict(rows[0])
    optimiser = torch.optim.Adadelta(network.parameters(), lr=0.5)
    chosen = torch.randperm(300, generator=torch.Generator().manual_seed(4))[:40]
    value = training.images[chosen]
    for name, layer in layers.items():
        value = layer(value) if name == "fc4" else torch.relu(layer(value))
    torch.nn.functional.cross_entropy(value, training.labels[chosen]).backward()
    optimiser.step()
    for name, expected in network.state_dict().items():
        torch.testing.assert_close(rows[1][name], expected, rtol=1e-4, atol=1e-6)


def test_reproduce__trains_what_is_missing_and_prints_both_fits(train, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    reproduce = script("reproduce")
    import experiments
    import measuring

    short = ("--optimizer", "adagrad", "--lr", "0.01", "--steps", "400", "--record-last", "300")
    experiment = experiments.Experiment(
        "tiny",
        "Adagrad",
        "oscillator",
        short,
        100,
        200,
        50,
        "loss",
        1,
        experiments.OSCILLATOR,
        ("92 %", "1.00", "132"),
    )
    monkeypatch.setattr(reproduce, "TABLE1", (experiment,))
    monkeypatch.setattr(measuring, "TIMED_STEPS", 6)
    kept = tmp_path / "kept"
    call = ["table1", "--runs", str(tmp_path), "--seeds", "0:2", "--keep", str(kept)]
    reproduce.main(call)
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [
        "adagrad_seed000.zarr",
        "adagrad_seed001.zarr",
    ]
    told = capsys.readouterr()
    assert "ms a step of one network alone" in told.err
    rows = [line.split(" | ") for line in told.out.splitlines() if line.startswith("|")]
    assert [row[1] for row in rows[2:]] == ["published", "paper, node", "auto"]
    assert all(row[4].endswith("of 2") for row in rows[3:])
    assert len(list(kept.iterdir())) == 2
    monkeypatch.setattr(measuring, "_fit_all", None)  # the second call takes both fits from the folder
    reproduce.main(call)
    assert capsys.readouterr().out == told.out
