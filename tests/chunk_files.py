"""The chunks of a stored array, whichever of the two kinds of names they have: ``c.0.0`` or ``c/0/0``."""

from __future__ import annotations

import json

from koopscope.trajectory.zarr_metadata import signed


def chunk_files(array):
    """List the files of an array's chunks."""
    return sorted(path for path in array.rglob("*") if path.is_file() and path.name != "zarr.json")


def use_folders(store):
    """Name all chunks ``c/0/0``, as the first recorders did."""
    for array in [child for child in store.iterdir() if child.is_dir()]:
        for chunk in chunk_files(array):
            named = array / chunk.relative_to(array).as_posix().replace(".", "/")
            named.parent.mkdir(parents=True, exist_ok=True)
            chunk.rename(named)
        metadata = json.loads((array / "zarr.json").read_bytes())
        metadata["chunk_key_encoding"]["configuration"]["separator"] = "/"
        (array / "zarr.json").write_text(json.dumps(signed(metadata)))
