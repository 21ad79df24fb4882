from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koopscope.errors import LayoutError, PartitionError
from koopscope.partition import Partition
from koopscope.simulation import linear_run
from koopscope.trajectory import from_arrays
from koopscope.weight_vector import WeightVector

RUN = linear_run(n_rows=3)
WEIGHTS = WeightVector.of(RUN)  # fc1.weight 4x3, fc1.bias 4, fc2.weight 2x4, fc2.bias 2: flat 0..25


def blocks(text):
    return Partition.parse(text).blocks(WEIGHTS)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("network", {"network": (1, 26)}),
        ("layer", {"fc1": (1, 16), "fc2": (1, 10)}),
        ("node", {"fc1": (4, 4), "fc2": (2, 5)}),
        ("quasi-node:2", {"fc1": (8, 2), "fc2/size-2": (4, 2), "fc2/size-1": (2, 1)}),
        ("quasi-node:10", {"fc1": (4, 4), "fc2": (2, 5)}),
        ("weight", {"fc1": (16, 1), "fc2": (10, 1)}),
        ("node,fc1=quasi-node:3", {"fc1/size-3": (4, 3), "fc1/size-1": (4, 1), "fc2": (2, 5)}),
        ("weight,fc2=layer", {"fc1": (16, 1), "fc2": (1, 10)}),
    ],
)
def test_blocks__shapes(text, shapes):
    assert {block.path: block.members.shape for block in blocks(text)} == shapes


def test_node__is_the_row_of_weights_and_bias():
    fc1, fc2 = blocks("node")
    assert fc1.members[2].tolist() == [6, 7, 8, 14]
    assert fc2.members[1].tolist() == [20, 21, 22, 23, 25]
    assert fc1.units.tolist() == [0, 1, 2, 3]


def test_quasi_node__chunks_are_contiguous_inside_a_node():
    first, rest = blocks("node,fc1=quasi-node:3")[:2]
    assert first.members[1].tolist() == [3, 4, 5]
    assert rest.members[1].tolist() == [13]
    assert rest.units.tolist() == [0, 1, 2, 3]


def test_node__follows_the_declared_output_axis():
    run = from_arrays([0], {"d.kernel": np.zeros((1, 3, 2)), "d.bias": np.zeros((1, 2))}, layout="keras")
    (block,) = Partition.node().blocks(WeightVector.of(run))
    assert block.members.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_node__stacked_gates_of_a_unit_go_together():
    run = from_arrays([0], {"rnn.weight": np.zeros((1, 4, 2))})
    run["rnn.weight"].attrs["output_blocks"] = 2
    (block,) = Partition.node().blocks(WeightVector.of(run))
    assert block.members.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_node__of_an_lstm_holds_its_gates_over_both_kernels_and_biases():
    shapes = {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,), "bias_hh_l0": (8,)}
    arrays = {f"rnn.{name}": np.zeros((1, *shape)) for name, shape in shapes.items()}
    weights = WeightVector.of(from_arrays([0], arrays))
    (block,) = Partition.node().blocks(weights)
    assert block.layer == "rnn.l0"
    assert block.members.shape == (2, 4 * (3 + 2 + 1 + 1))
    places = [weights.locate(int(index)) for index in block.members[1]]
    assert {name for name, _ in places} == {f"rnn.{name}" for name in shapes}
    assert all(position[0] in (1, 3, 5, 7) for _, position in places)
    assert places[0][0].startswith("rnn.weight")
    assert places[-1][0].startswith("rnn.bias")


def test_node__blocks_that_do_not_divide_the_outputs():
    run = from_arrays([0], {"rnn.weight": np.zeros((1, 4, 2))})
    for blocks in (0, 3, 2**40):
        run["rnn.weight"].attrs["output_blocks"] = blocks
        with pytest.raises(LayoutError, match="do not divide"):
            Partition.node().blocks(WeightVector.of(run))


def test_node__without_a_known_output_axis_names_the_remedy():
    run = from_arrays([0], {"w": np.zeros((1, 3, 3))}, layout=None)
    with pytest.raises(LayoutError, match="--layout"):
        Partition.node().blocks(WeightVector.of(run))
    assert Partition.layer().blocks(WeightVector.of(run))[0].members.shape == (1, 9)


def test_from_labels__groups_cross_tensors_and_keep_first_appearance():
    every_row = np.array([["a", "b", "a"]] * 4)
    labels = {"fc1.weight": every_row, "fc1.bias": "b", "fc2.weight": 7, "fc2.bias": 7}
    found = {block.path: block.members for block in Partition.from_labels(labels).blocks(WEIGHTS)}
    assert found["labels/size-8"][0].tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert found["labels/size-8"][1].tolist() == [1, 4, 7, 10, 12, 13, 14, 15]
    assert found["labels/size-10"].tolist() == [list(range(16, 26))]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"fc1.weight": "a"}, "fc1.bias has no label"),
        ({"fc1.weight": np.zeros(3, int)}, "shape"),
        ({"fc1.weight": np.zeros((4, 3))}, "float64"),
        ({"nothing": 1}, "no tensor"),
    ],
)
def test_from_labels__problems_are_named(labels, words):
    complete = {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 0, "fc2.bias": 0}
    given_labels = labels if words.startswith("fc1.bias") else complete | labels
    with pytest.raises(PartitionError, match=words):
        Partition.from_labels(given_labels).blocks(WEIGHTS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write network"),
        ("nodes", "write network"),
        ("quasi-node", "write network"),
        ("quasi-node:0", "write network"),
        ("quasi-node:x", "write network"),
        ("node:3", "write network"),
        ("labels", "Partition.from_labels"),
        ("node,fc1", "expected layer=scheme"),
        ("node,=layer", "expected layer=scheme"),
        ("network,fc1=node", "cannot be mixed"),
        ("node,fc1=network", "cannot be mixed"),
    ],
)
def test_parse__rejects_and_shows_what_can_be_written(text, words):
    with pytest.raises(PartitionError, match=words):
        Partition.parse(text)


def test_blocks__unknown_layer_lists_the_layers():
    with pytest.raises(PartitionError, match="fc1, fc2"):
        blocks("node,fc9=layer")


@settings(deadline=None, max_examples=40)
@given(
    outputs=st.integers(1, 6),
    inputs=st.integers(1, 6),
    chunk=st.integers(1, 8),
    scheme=st.sampled_from(["network", "layer", "node", "quasi-node", "weight"]),
)
def test_blocks__every_weight_is_in_exactly_one_group(outputs, inputs, chunk, scheme):
    tensors = {"a.weight": np.zeros((1, outputs, inputs)), "a.bias": np.zeros((1, outputs))}
    weights = WeightVector.of(from_arrays([0], tensors))
    text = f"quasi-node:{chunk}" if scheme == "quasi-node" else scheme
    members = [block.members.ravel() for block in Partition.parse(text).blocks(weights)]
    assert sorted(np.concatenate(members).tolist()) == list(range(weights.size))
