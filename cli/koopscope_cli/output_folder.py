"""Where results go: complete or not at all, and never in place of something that is not koopscope's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from koopscope.errors import OutputExistsError, UsageError
from koopscope.targets import require_free_file, require_outside_stores

FIT, FORECAST, SUMMARY = "fit.zarr", "forecast.zarr", "summary.json"
EIGENVALUES, ERRORS = "eigenvalues.png", "error_vs_evolution.png"
MARK = "koopscope_output"  # key of summary.json; its value is the version of the folder's form
REPORT = "report.html"
_MEMBERS = {REPORT, FIT, FORECAST, SUMMARY, EIGENVALUES, ERRORS}
PICTURES = (".png", ".pdf", ".svg")
_ELSEWHERE = "choose another place with -o"


def claim_folder(target: Path, source: str, *, overwrite: bool) -> Path:
    """Check, before any work, that a folder of results may be written at ``target``.

    A folder that koopscope made from the same input may be replaced; one from another input, or an
    empty one, with ``overwrite``; nothing else ever.

    Parameters
    ----------
    target
        Where the folder shall be.
    source
        The recording: its absolute path, or its URL.
    overwrite
        What ``--overwrite`` says.

    Returns
    -------
    Path
        ``target``, resolved: links are followed, so that a folder is replaced where it lies.

    Raises
    ------
    OutputExistsError
        If something is there that must stay.
    UsageError
        If the place cannot be written to, or lies inside the recording.
    """
    place = target.resolve()
    if source in map(str, (place, *place.parents)):
        raise UsageError(f"{target} lies in the recording {source}; {_ELSEWHERE}")
    _require_writable(place)
    if not place.exists():
        return place
    if not place.is_dir():
        raise OutputExistsError(f"{target} is a file, which koopscope does not replace; {_ELSEWHERE}")
    entries = {entry.name for entry in place.iterdir()}
    summary = read_summary(place)
    if entries and summary is None:
        raise OutputExistsError(f"{target} holds {_some(entries)}, not results of koopscope; {_ELSEWHERE}")
    if entries - _MEMBERS:
        foreign = _some(entries - _MEMBERS)
        raise OutputExistsError(f"{target} holds {foreign}, which koopscope did not make; {_ELSEWHERE}")
    if overwrite or (summary is not None and summary.get("input") == source):
        return place
    held = "is an empty folder" if summary is None else f"holds results from {summary.get('input')}"
    raise OutputExistsError(f"{target} {held}; --overwrite replaces it, or {_ELSEWHERE}")


def claim_result(target: Path, kind: str, *, replace: bool) -> Path:
    """Check that a result, such as a forecast, may be stored at ``target``; only one of its kind is replaced.

    Parameters
    ----------
    target
        Where the store shall be.
    kind
        ``"forecast"`` or another kind that `koopscope.save` writes.
    replace
        Whether one that is there may be replaced.

    Raises
    ------
    OutputExistsError
        If something is there that must stay.
    UsageError
        If the place cannot be written to.
    """
    place = target.resolve()
    _require_writable(place)
    if not place.exists():
        return place
    attributes = _read_json(place / "zarr.json").get("attributes")
    if not isinstance(attributes, dict) or attributes.get("koopscope_result") != kind:
        raise OutputExistsError(f"{target} is no {kind} of koopscope and stays as it is; {_ELSEWHERE}")
    if not replace:
        raise OutputExistsError(f"{target} holds another {kind}; --overwrite replaces it, or {_ELSEWHERE}")
    return place


def claim_file(target: Path, *, suffixes: tuple[str, ...], overwrite: bool) -> Path:
    """Check, before any work, that a file may be written at ``target``; only a file is ever replaced.

    Parameters
    ----------
    target
        Where the file shall be.
    suffixes
        Endings its name may have.
    overwrite
        What ``--overwrite`` says.

    Raises
    ------
    OutputExistsError
        If something is there that must stay.
    UsageError
        If the place cannot be written to, or its name ends otherwise.
    """
    place = target.resolve()
    if place.suffix.lower() not in suffixes:
        raise UsageError(f"{target}: expected a name that ends in {', '.join(suffixes)}")
    _require_writable(place)
    require_free_file(place, overwrite=overwrite)
    return place


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """Give a free path beside ``place``; what is built there moves to ``place`` when all went well.

    After an error or an interrupt ``place`` is as before, and nothing else is left.
    """
    made = _make_parents(place)
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        yield staging / "new"
        _swap(staging, place)
    except BaseException:
        _remove(staging)
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
        raise
    _remove(staging)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Read the summary of a folder that ``koopscope fit`` wrote; None where it is none."""
    summary = _read_json(folder / SUMMARY)
    return summary if summary.get(MARK) == 1 else None


def _swap(staging: Path, place: Path) -> None:
    old = staging / "old"
    try:
        if place.exists():
            os.replace(place, old)
        os.replace(staging / "new", place)
    except BaseException:
        if old.exists() and not place.exists():
            os.replace(old, place)
        raise


def _remove(staging: Path | None) -> None:
    if staging is None:
        return
    try:
        shutil.rmtree(staging, ignore_errors=True)
    except BaseException:  # an interrupt while tidying up must not stop the tidying
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _make_parents(place: Path) -> list[Path]:
    missing = [parent for parent in reversed(place.parents) if not parent.exists()]
    for parent in missing:
        parent.mkdir(exist_ok=True)
    return missing


def _require_writable(place: Path) -> None:
    require_outside_stores(place)
    nearest = next((parent for parent in place.parents if parent.exists()), place)  # the root has none
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{place} cannot be written: {nearest} is no writable folder; {_ELSEWHERE}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
