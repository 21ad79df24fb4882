"""The child process that loads .pt files, run by `torch_file`: torch_worker.py FOLDER FILE...

It limits itself once torch is loaded: no more memory than the largest file needs, no new process, no file
larger than what it is to write, and a bounded time.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

_NAMES = ("state_dict", "model_state_dict", "model")
_CODES = {
    "torch.float16": "F16",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
}
_MARGIN = 256 * 2**20
_CPU_SECONDS = 300


def main(folder: str, *files: str) -> None:
    """Write the tensors of each file as a .safetensors file in a folder."""
    try:
        torch = import_module("torch")
    except ImportError:
        sys.exit("torch is not installed, which reading .pt files needs: pip install torch")
    sizes = [Path(file).stat().st_size for file in files]
    _limit(max(sizes, default=0))
    for file in files:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            _write(torch, dict(_tensors(torch, loaded)), Path(folder) / f"{Path(file).stem}.safetensors")
        except Exception as error:
            sys.exit(f"{file}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _limit(size: int) -> None:
    # Views of one storage may repeat it; a file that does so beyond measure meets the limits.
    room = 4 * size + _MARGIN
    limits = {"FSIZE": room, "CPU": _CPU_SECONDS, "NPROC": 0, "CORE": 0}
    status = Path("/proc/self/statm")
    if status.exists():
        limits["AS"] = int(status.read_text().split()[0]) * resource.getpagesize() + room
    for name, limit in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        highest = resource.getrlimit(kind)[1]
        allowed = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(kind, (allowed, allowed))


def _tensors(torch: Any, loaded: Any) -> Iterator[tuple[str, Any]]:
    """Find the mapping of names to tensors: the file itself, or what usual scripts call the model's part."""
    candidates = [loaded, *(loaded.get(name) for name in _NAMES)] if isinstance(loaded, Mapping) else []
    for found in candidates:
        if (
            isinstance(found, Mapping)
            and found
            and all(isinstance(value, torch.Tensor) for value in found.values())
        ):
            yield from ((str(name), value) for name, value in found.items())
            return
    raise ValueError(
        f"expected a state_dict, or one under {', '.join(_NAMES)}; found {type(loaded).__name__}"
    )


def _write(torch: Any, tensors: Mapping[str, Any], path: Path) -> None:
    header: dict[str, Any] = {}
    place = 0
    places: dict[tuple[int, tuple[int, ...], tuple[int, ...], str], list[int]] = {}
    parts = []
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), str(tensor.dtype))
        offsets = places.get(identity) if tensor.numel() else None
        if offsets is None:
            size = tensor.numel() * tensor.element_size()
            offsets = places[identity] = [place, place + size]
            place += size
            parts.append(tensor)
        code = _CODES.get(str(tensor.dtype), str(tensor.dtype))
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": offsets}
    words = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(words).to_bytes(8, "little") + words)
        for tensor in parts:
            tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tofile(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
