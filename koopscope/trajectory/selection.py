"""Which tensors to open: globs on their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from koopscope.errors import UsageError

Globs = str | Sequence[str] | None


class Selection:
    """A test of tensor names by globs.

    Parameters
    ----------
    include
        A glob or several; ``None`` takes all names.
    exclude
        A glob or several; ``None`` leaves none out.

    Raises
    ------
    UsageError
        Where a glob is no string.

    Examples
    --------
    >>> chosen = Selection("fc*", ["*.bias"])
    >>> [name for name in ("fc1.weight", "fc1.bias", "conv.weight") if chosen.keeps(name)]
    ['fc1.weight']
    """

    def __init__(self, include: Globs = None, exclude: Globs = None) -> None:
        """Check the globs."""
        self._include = _globs("include", include, default=("*",))
        self._exclude = _globs("exclude", exclude, default=())

    def excludes(self, name: str) -> bool:
        """Tell whether a name is left out by `exclude`; such tensors bear no witness to the layout either."""
        return any(fnmatchcase(name, glob) for glob in self._exclude)

    def keeps(self, name: str) -> bool:
        """Tell whether a tensor is to be opened."""
        return not self.excludes(name) and any(fnmatchcase(name, glob) for glob in self._include)


def _globs(argument: str, globs: Globs, *, default: tuple[str, ...]) -> tuple[str, ...]:
    if globs is None:
        return default
    several = (globs,) if isinstance(globs, str) else tuple(globs)
    if not all(isinstance(glob, str) for glob in several):
        raise UsageError(f"{argument}: expected a glob such as 'fc*' or a list of globs, got {globs!r}")
    return several
