"""Reads PyTorch .pt files: screened, then loaded by a child process with limits into .safetensors files.

Nothing is unpickled in this process. The child uses ``torch.load(weights_only=True)`` and has no other way.
"""

from __future__ import annotations

import os
import pickletools
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.npz_file import check_zip_directory

_WORKER = Path(__file__).with_name("torch_worker.py")
_SECONDS = 600
# Words that call things whose names are made up as the pickle is run.
_HIDING = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
_ALLOWED = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (\w+Storage|Size|\w*float\w*)"
)


def screen(path: Path) -> None:
    """Look at the archive and at the words of its pickle without running them.

    Raises
    ------
    TrajectoryError
        Where it is no archive of plain tensors.
    """
    with path.open("rb") as file:
        head = file.read(2)
    if head != b"PK":
        raise TrajectoryError(
            f"{path}: a bare pickle, which is not read; save it again with torch.save, or as .safetensors"
        )
    check_zip_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
            pickles = [member for member in members if member.filename.endswith("data.pkl")]
            if packed or len(pickles) != 1 or pickles[0].file_size > fmt.MAX_METADATA_BYTES:
                raise TrajectoryError(
                    f"{path}: expected an archive made by torch.save, stored plainly, with one data.pkl "
                    f"of at most {fmt.MAX_METADATA_BYTES} bytes"
                )
            words = archive.read(pickles[0])
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise TrajectoryError(f"{path}: cannot be read as .pt ({error}); damaged") from error
    _screen_words(path, words)


def _screen_words(path: Path, words: bytes) -> None:
    try:
        for opcode, argument, _ in pickletools.genops(words):
            if opcode.name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument)):
                raise TrajectoryError(
                    f"{path}: its pickle calls {argument!r:.120}, and only tensors are read; "
                    "save state_dict() alone"
                )
            if opcode.name in _HIDING:
                raise TrajectoryError(
                    f"{path}: its pickle has the word {opcode.name}, which torch.save does not write, "
                    "and only tensors are read"
                )
    except (ValueError, IndexError) as error:
        raise TrajectoryError(f"{path}: expected a pickle of tensors ({error}); damaged") from error


def to_safetensors(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Load .pt files in a child process and write each one's tensors as ``<stem>.safetensors``.

    Parameters
    ----------
    paths
        The files.
    folder
        Where to write; removed by the caller.

    Raises
    ------
    TrajectoryError
        Where a file is hostile or not one of tensors, torch is not installed, or the disk is too small.
    """
    for path in paths:
        screen(path)
    total = sum(path.stat().st_size for path in paths)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise TrajectoryError(
            f"{paths[0].parent}: reading these .pt files needs {total} bytes in {folder}, where {free} are "
            "free; set TMPDIR, or save as .safetensors"
        )
    command = [sys.executable, "-I", str(_WORKER), str(folder), *map(str, paths)]
    # One thread, as the child may start none.
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment |= {
        key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH", "HOME")
    }
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise TrajectoryError(f"{paths[0].parent}: reading .pt files took over {_SECONDS} s") from error
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise TrajectoryError(
            f"{paths[0].parent}: .pt: {(words or [f'exit code {done.returncode}'])[-1]:.400}"
        )
    return [folder / f"{path.stem}.safetensors" for path in paths]
