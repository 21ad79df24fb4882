"""Where recordings are: paths, which become absolute, and URLs, which stay as they are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit


def is_url(place: str) -> bool:
    """Tell whether a recording is at a URL."""
    return "://" in place


def absolute(place: str) -> str:
    """Give what finds a recording from any folder.

    >>> absolute("s3://bucket/run.zarr")
    's3://bucket/run.zarr'
    """
    return place if is_url(place) else str(Path(place).resolve())


def stem(place: str) -> str:
    """Give the name that results of a recording are called by.

    >>> stem("s3://bucket/runs/first.zarr/"), stem("s3://bucket"), stem("runs/first.h5")
    ('first', 'bucket', 'first')
    """
    if not is_url(place):
        return Path(place).resolve().stem
    parts = urlsplit(place.rpartition("::")[2])
    return Path(parts.path.rstrip("/")).stem or Path(parts.netloc).stem
