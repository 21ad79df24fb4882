"""A folder behind a URL: fetching and putting whole small files, and chunks within limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import RecordingError, TrajectoryError, UsageError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import ChunkError

_MAX_CHUNKS = 100_000
_CHUNK = re.compile(r"c([./][0-9]+)+")
_ROOT = "zarr.json"


def is_url(path: object) -> bool:
    """Tell whether a path is a URL such as ``s3://bucket/run.zarr``.

    >>> is_url("s3://bucket/run.zarr"), is_url("C:/run.zarr")
    (True, False)
    """
    return isinstance(path, str) and "://" in path


class Place:
    """A folder behind a URL.

    Parameters
    ----------
    url
        Anything fsspec opens; credentials and endpoints come from its own configuration.

    Raises
    ------
    UsageError
        Where what opens such URLs is not installed, or nothing opens them.
    """

    def __init__(self, url: str) -> None:
        """Find the file system; nothing is fetched."""
        try:
            from fsspec.core import url_to_fs

            self._files, root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"{url}: cannot be opened ({error}); python -m pip install 'koopscope[remote]' brings fsspec "
                "and S3, other URLs need the package of fsspec that opens them"
            ) from error
        self.url = url.rstrip("/")
        self._root = root.rstrip("/")

    def root_attrs(self) -> dict[str, Any] | None:
        """Fetch the attrs of a Zarr group there; ``None`` where there is nothing, empty for anything else.

        Raises
        ------
        TrajectoryError
            Where it is out of reach.
        """
        content = self.fetch([_ROOT], missing_ok=True).get(_ROOT)
        if content is None:
            return {} if self._listed(missing_ok=True) else None
        try:
            attrs = json.loads(content).get("attributes", {})
        except (ValueError, AttributeError, RecursionError):
            return {}
        return attrs if isinstance(attrs, dict) else {}

    def put(self, name: str, content: bytes) -> None:
        """Put a file in place whole.

        Raises
        ------
        RecordingError
            Where that fails.
        """
        try:
            path = f"{self._root}/{name}"
            # A real file system behind a URL has folders, an object store has none.
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, content)
        # Every file system has errors of its own.
        except Exception as error:
            raise RecordingError(
                f"{self.url}/{name}: cannot be written ({error!r:.300}); the rows of this block are kept in "
                "memory and tried again with the next append(), commit() or close()"
            ) from error

    def remove(self) -> None:
        """Remove everything there.

        Raises
        ------
        RecordingError
            Where that fails.
        """
        try:
            self._files.rm(self._root, recursive=True)
        except Exception as error:
            raise RecordingError(f"{self.url}: cannot be removed ({error!r:.300})") from error

    def copy_small_files(self, mirror: Path) -> None:
        """Copy all metadata, and the chunks of steps and metrics.

        Raises
        ------
        TrajectoryError
            Where they are missing, out of reach, or beyond the limits.
        """
        (mirror / _ROOT).write_bytes(self.fetch([_ROOT])[_ROOT])
        listed = self._listed()
        fmt.check_count(self.url, len(listed))
        # Names become paths in the mirror: the rule for names lets none of them lead out of it.
        fmt.check_names(name for name in listed if name != fmt.STEP)
        members = self.fetch([f"{name}/{_ROOT}" for name in listed], missing_ok=True)
        series = [
            name.removesuffix(f"/{_ROOT}")
            for name, content in members.items()
            if name == f"{fmt.STEP}/{_ROOT}" or b'"metric"' in content
        ]
        chunks = [chunk for name in series for chunk in self._chunks(name)]
        self.copy(mirror, [], members)
        self.copy(mirror, chunks)

    def copy(self, mirror: Path, names: list[str], contents: dict[str, bytes] | None = None) -> None:
        """Copy some chunks, or contents that were fetched already, to the same names in a folder."""
        found = self.fetch(names, limit=fmt.MAX_CHUNK_BYTES) if contents is None else contents
        for name, content in found.items():
            (mirror / name).parent.mkdir(parents=True, exist_ok=True)
            (mirror / name).write_bytes(content)

    def _listed(self, *, missing_ok: bool = False) -> list[str]:
        try:
            entries = self._files.ls(self._root, detail=True)
        except FileNotFoundError as error:
            if missing_ok:
                return []
            raise TrajectoryError(f"{self.url}: cannot be listed ({error})") from error
        except Exception as error:
            raise TrajectoryError(f"{self.url}: cannot be listed ({error!r:.300})") from error
        folders = (entry["name"] for entry in entries if entry["type"] == "directory")
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in folders)

    def _chunks(self, name: str) -> list[str]:
        """List the chunks of a series, and check what they take together."""
        start = f"{self._root}/{name}/"
        found = self._files.find(start, detail=True)
        sizes = {
            str(key).rpartition(start.lstrip("/"))[2]: int(entry["size"] or 0) for key, entry in found.items()
        }
        sizes = {key: size for key, size in sizes.items() if _CHUNK.fullmatch(key)}
        if len(sizes) > _MAX_CHUNKS or sum(sizes.values()) > fmt.MAX_SERIES_BYTES:
            raise TrajectoryError(
                f"{self.url}: {name!r}: more chunks, or larger ones, than a series can need"
            )
        return [f"{name}/{key}" for key in sizes]

    def fetch(
        self, names: list[str], *, limit: int = fmt.MAX_METADATA_BYTES, missing_ok: bool = False
    ) -> dict[str, bytes]:
        """Fetch small files, at most `limit` bytes of each.

        Raises
        ------
        TrajectoryError
            Where one is missing, out of reach, or larger.
        """
        if not names:
            return {}
        paths = [f"{self._root}/{name}" for name in names]
        found = self._files.cat_ranges(paths, [0] * len(paths), [limit + 1] * len(paths), on_error="return")
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


class PlaceFetch:
    """Fetches the chunks of one array behind a URL.

    Parameters
    ----------
    place
        The store.
    array
        Name of the array.
    """

    def __init__(self, place: Place, array: str) -> None:
        """Remember where to fetch from."""
        self._place = place
        self._array = array

    def __call__(self, name: str, buffer: NDArray[np.uint8]) -> int:
        """Fetch a chunk into a buffer; of a larger one no more than that is fetched.

        Raises
        ------
        FileNotFoundError
            Where there is none.
        ChunkError
            Where it does not fit, as nothing that decodes to the right size would be so large.
        """
        path = f"{self._array}/{name}"
        try:
            content = self._place.fetch([path], limit=buffer.size, missing_ok=True).get(path)
        except TrajectoryError as error:
            raise ChunkError(str(error)) from error
        if content is None:
            raise FileNotFoundError(path)
        buffer[: len(content)] = np.frombuffer(content, np.uint8)
        return len(content)
