import math

import pytest

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt


@pytest.mark.parametrize("name", ["a", "fc1.weight", "0.bias", "_x-1", "a" * 200])
def test_check_names__legal(name):
    fmt.check_names([name])


@pytest.mark.parametrize("name", ["", ".a", "-a", "a..b", "zarr.json", "a b", "a/b", "ä", "a" * 201, "a\n"])
def test_check_names__illegal(name):
    with pytest.raises(TrajectoryError, match="expected 1 to 200 letters"):
        fmt.check_names([name])


@pytest.mark.parametrize("names", [["a.B", "a.b"], ["Step"], ["a", "a"]])
def test_check_names__equal_but_for_case(names):
    with pytest.raises(TrajectoryError, match="equal but for upper and lower case"):
        fmt.check_names(names)


def test_check_version__this_one_and_its_minors():
    fmt.check_version("trajectory/1", "here")
    fmt.check_version("trajectory/1.3", "here")


def test_check_version__newer_major():
    with pytest.raises(TrajectoryError, match=r"written as trajectory/2; this koopscope reads trajectory/1"):
        fmt.check_version("trajectory/2", "here")


@pytest.mark.parametrize("found", [None, 1, "weights", "trajectory/x"])
def test_check_version__another_format(found):
    with pytest.raises(TrajectoryError, match=r"not a recording made by koopscope\.TrajectoryWriter"):
        fmt.check_version(found, "here")


def test_check_limits__rank_and_chunk_bytes():
    fmt.check_limits("here", (1,) * 8, fmt.MAX_CHUNK_BYTES)
    with pytest.raises(TrajectoryError, match="at most 8 dimensions"):
        fmt.check_limits("here", (1,) * 9, 8)
    with pytest.raises(TrajectoryError, match="chunks of at most"):
        fmt.check_limits("here", (1,), fmt.MAX_CHUNK_BYTES + 1)


@pytest.mark.parametrize(
    ("shape", "output_axes", "chunk"),
    [
        ((10, 10), (0,), (64, 10, 10)),
        ((784, 1000), (1,), (64, 784, 5)),
        ((1000, 784), None, (64, 5, 784)),
        ((), None, (64,)),
        ((0, 4), (0,), (64, 1, 4)),
    ],
)
def test_chunk_shape__whole_nodes_of_about_a_mebibyte(shape, output_axes, chunk):
    assert fmt.chunk_shape(shape, 64, 4, output_axes) == chunk


def test_chunk_shape__readers_accept_it_whatever_the_node():
    chunk = fmt.chunk_shape((2, 10_000_000), 64, 8, (0,))
    assert math.prod(chunk) * 8 <= fmt.MAX_CHUNK_BYTES
