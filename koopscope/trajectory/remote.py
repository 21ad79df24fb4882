"""Opens recordings at a URL: small files are fetched whole, chunks of weights when they are asked for.

The metadata, the steps and the metrics are copied into a temporary folder and go through the same reader,
with the same checks, as a local store. An object store has no journal: a block of rows is there or is not.
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.dataset import metric_names, tensor_names
from koopscope.trajectory.lazy import lazily
from koopscope.trajectory.selection import Selection
from koopscope.trajectory.zarr_reader import read_zarr

_MAX_CHUNKS = 100_000


def is_url(path: object) -> bool:
    """Tell whether a path is a URL such as ``s3://bucket/run.zarr``.

    >>> is_url("s3://bucket/run.zarr"), is_url("C:/run.zarr")
    (True, False)
    """
    return isinstance(path, str) and "://" in path


def read_url(url: str, *, layout: str | None, selection: Selection) -> xr.Dataset:
    """Open a Zarr recording at a URL lazily.

    Parameters
    ----------
    url
        Anything fsspec opens; credentials and endpoints come from its own configuration.
    layout
        Layout that overrides the one recorded, or ``None``.
    selection
        Tells which tensors to open.

    Raises
    ------
    TrajectoryError
        Where there is no recording, a damaged one, or one beyond the limits.
    """
    place = _Place(url)
    with tempfile.TemporaryDirectory(prefix="koopscope-") as temporary:
        mirror = Path(temporary) / "remote.zarr"
        mirror.mkdir()
        try:
            place.copy_small_files(mirror)
            local = read_zarr(mirror, layout=layout, selection=selection)
        except TrajectoryError as error:
            raise TrajectoryError(str(error).replace(str(mirror), url)) from error
    rows = local.sizes["step"]
    variables = dict(local.variables)
    for name in tensor_names(local):
        old = local[name].variable
        array = _RemoteArray(place, name)
        data = lazily(array.read, (rows, *old.shape[1:]), old.dtype)
        variables[name] = xr.Variable(old.dims, data, old.attrs)
    names = [*tensor_names(local), *metric_names(local)]
    return xr.Dataset(
        {name: variables[name] for name in names},
        coords={"step": local["step"].values},
        attrs={**local.attrs, "source": url},
    )


class _Place:
    """A folder behind a URL."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self.files, self.root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise TrajectoryError(
                f"{url}: cannot be opened ({error}); pip install fsspec, and what the URL needs"
            ) from error
        self.url = url.rstrip("/")
        self.root = self.root.rstrip("/")

    def copy_small_files(self, mirror: Path) -> None:
        """Copy all metadata, and the chunks of steps and metrics."""
        (mirror / "zarr.json").write_bytes(self._fetch(["zarr.json"])["zarr.json"])
        listed = self._listed()
        fmt.check_count(self.url, len(listed))
        # Names become paths in the mirror: the rule for names lets none of them lead out of it.
        fmt.check_names(name for name in listed if name != fmt.STEP)
        members = self._fetch([f"{name}/zarr.json" for name in listed], missing_ok=True)
        for name, content in members.items():
            (mirror / name).parent.mkdir(exist_ok=True)
            (mirror / name).write_bytes(content)
        series = [
            name.removesuffix("/zarr.json")
            for name, content in members.items()
            if name == f"{fmt.STEP}/zarr.json" or b'"metric"' in content
        ]
        chunks = [chunk for name in series for chunk in self._chunks(name)]
        for name, content in self._fetch(chunks, limit=fmt.MAX_SERIES_BYTES).items():
            (mirror / name).parent.mkdir(parents=True, exist_ok=True)
            (mirror / name).write_bytes(content)

    def _listed(self) -> list[str]:
        try:
            entries = self.files.ls(self.root, detail=True)
        except (OSError, ValueError) as error:
            raise TrajectoryError(f"{self.url}: cannot be listed ({error})") from error
        folders = (entry["name"] for entry in entries if entry["type"] == "directory")
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in folders)

    def _chunks(self, name: str) -> list[str]:
        """List the chunks of a one-dimensional array, and check what they take together."""
        found = self.files.find(f"{self.root}/{name}/c", detail=True)
        sizes = {str(key).rpartition("/")[2]: int(entry["size"] or 0) for key, entry in found.items()}
        if len(sizes) > _MAX_CHUNKS or sum(sizes.values()) > fmt.MAX_SERIES_BYTES:
            raise TrajectoryError(
                f"{self.url}: {name!r}: more chunks, or larger ones, than a series can need"
            )
        return [f"{name}/c/{key}" for key in sizes if key.isdecimal()]

    def _fetch(
        self, names: list[str], *, limit: int = fmt.MAX_METADATA_BYTES, missing_ok: bool = False
    ) -> dict[str, bytes]:
        """Fetch small files, at most `limit` bytes of each."""
        if not names:
            return {}
        paths = [f"{self.root}/{name}" for name in names]
        found = self.files.cat_ranges(paths, [0] * len(paths), [limit + 1] * len(paths), on_error="return")
        contents: dict[str, bytes] = {}
        for name, content in zip(names, found, strict=True):
            if isinstance(content, FileNotFoundError) and missing_ok:
                continue
            if isinstance(content, BaseException):
                raise TrajectoryError(f"{self.url}: {name}: cannot be read ({content!r:.300})") from content
            if len(content) > limit:
                raise TrajectoryError(f"{self.url}: {name}: expected at most {limit} bytes")
            contents[name] = bytes(content)
        return contents

    @cached_property
    def store(self) -> Any:
        """The folder as Zarr sees it."""
        return zarr.storage.FsspecStore.from_url(self.url, read_only=True)


class _RemoteArray:
    """One array of a remote store; Zarr fetches and checks its chunks."""

    def __init__(self, place: _Place, name: str) -> None:
        self._place = place
        self._name = name

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        return zarr.open_array(self._place.store, path=self._name, mode="r", zarr_format=3)

    def read(self, key: tuple[slice, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._array[key])
        except (ValueError, RuntimeError, OSError) as error:
            raise TrajectoryError(
                f"{self._place.url}/{self._name}: damaged or out of reach, cannot be read ({error})"
            ) from error
