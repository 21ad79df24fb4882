"""What the tests of all recipes share: the node rows of a recording's last row, by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import koopscope
from koopscope import Partition
from koopscope.trajectory import tensor_names
from koopscope.weight_vector import WeightVector
from koopscope_cli.main import main


def node_rows(trajectory):
    """Map each layer to its nodes; a node is the sorted tuple of the values of its weights."""
    values = [trajectory[name].values[-1].ravel() for name in tensor_names(trajectory)]
    flat = np.concatenate(values)
    found: dict[str, list[tuple[float, ...]]] = {}
    for block in Partition.node().blocks(WeightVector.of(trajectory)):
        rows = found.setdefault(block.layer, [])
        rows.extend(tuple(np.sort(flat[members])) for members in block.members)
    return found


def fits_by_node(path, *options):
    """Fit a recording as a user does, and hold the number of groups against that of its nodes."""
    folder = f"{path}.koop"
    assert main(["fit", str(path), "--partition", "node", "-o", folder, "--overwrite", *options]) == 0
    summary = json.loads((Path(folder) / "summary.json").read_text())
    trajectory = koopscope.open_trajectory(path)
    assert summary["groups"] == sum(map(len, node_rows(trajectory).values()))
    assert summary["weights"] == sum(trajectory[name][0].size for name in tensor_names(trajectory))


def rows_of(*parts):
    """Build expected nodes: each part is (units, values of the unit); parts are joined unit by unit."""
    flat = [np.asarray(part).reshape(len(part), -1) for part in parts]
    return [tuple(np.sort(row)) for row in np.concatenate(flat, axis=1)]


def gates_first(array, gates):
    """Turn (gates * units, ...) into (units, gates, ...)."""
    array = np.asarray(array)
    return array.reshape(gates, array.shape[0] // gates, -1).swapaxes(0, 1)
