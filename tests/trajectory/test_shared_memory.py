"""Weights of torch that are recorded without being asked for their array again."""

import numpy as np
import pytest

from koopscope.errors import TrajectoryError
from koopscope.trajectory import TrajectoryWriter, open_trajectory
from koopscope.trajectory.shared_memory import SharedMemory

torch = pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(130, 130), torch.nn.Linear(130, 3))


def recorded(path, offered):
    """Record what a function of the step offers, in six rows, and keep copies of it."""
    kept = []
    with TrajectoryWriter(path, layout="torch") as writer:
        for step in range(6):
            row = offered(step)
            kept.append({name: value.detach().clone().numpy() for name, value in row.items()})
            writer.append(step, row)
    trajectory = open_trajectory(path)
    for name in kept[0]:
        np.testing.assert_array_equal(trajectory[name].values, [row[name] for row in kept])


@torch.no_grad()
def moved(net):
    for parameter in net.parameters():
        parameter += torch.randn_like(parameter)


@pytest.mark.parametrize("kind", ["parameters", "state_dict", "copies"])
def test_append__torch(tmp_path, net, kind):
    def offered(step):
        moved(net)
        if kind == "parameters":
            return dict(net.named_parameters())
        state = net.state_dict()
        return state if kind == "state_dict" else {name: value.clone() for name, value in state.items()}

    recorded(tmp_path / "run.zarr", offered)


def test_append__torch_with_other_memory_on_the_way(tmp_path, net):
    """New memory, a transposed look at the same, and a part of a larger tensor are all seen."""
    weight = net[0].weight
    states = [
        lambda: weight.data,
        lambda: weight.data,
        lambda: weight.data,
        lambda: weight.data.t(),
        lambda: torch.randn(130, 130),
        lambda: torch.randn(260, 130)[::2],
    ]

    def offered(step):
        weight.data = states[step]()
        moved(net)
        return dict(net.named_parameters())

    recorded(tmp_path / "run.zarr", offered)


def test_append__torch_of_another_shape_or_dtype_at_the_same_address(tmp_path, net):
    weight = net[0].weight
    with TrajectoryWriter(tmp_path / "run.zarr", layout="torch") as writer:
        for step in range(3):
            writer.append(step, dict(net.named_parameters()))
        values = weight.data
        for changed in (values[:65], values.view(65, 260), values.view(torch.int32)):
            with pytest.raises(TrajectoryError, match=r"0.weight"):
                writer.append(3, {**dict(net.named_parameters()), "0.weight": changed})
        writer.append(3, dict(net.named_parameters()))
    assert open_trajectory(tmp_path / "run.zarr").sizes["step"] == 4


def test_remember__only_what_stays_in_place(net):
    memory = SharedMemory()
    weight = net[0].weight
    for row in range(3):
        shown = memory.find("w", weight)
        assert (shown is None) == (row < 2)
        if shown is None:
            memory.remember("w", weight, weight.detach().numpy())
    assert np.shares_memory(shown.array, weight.detach().numpy())
    memory.remember("copy", weight, weight.detach().numpy().copy())
    memory.remember("copy", weight, weight.detach().numpy().copy())
    assert memory.find("copy", weight) is None
    assert memory.find("w", net[1].weight) is None
