"""Numbers out of a verification, in the flat order of all weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError
from koopscope.fit_tree import fitted_weights

Floats = npt.NDArray[np.float64]


def lead_position(verification: xr.DataTree, lead: int | None) -> int:
    """Find a lead of a verification; the largest by default.

    Raises
    ------
    UsageError
        If the verification does not hold the lead.
    """
    leads = verification["lead"].to_numpy()
    if lead is None:
        return int(np.argmax(leads))
    found = np.flatnonzero(leads == lead)
    if not found.size:
        held = ", ".join(map(str, leads[:8])) + (", ..." if leads.size > 8 else "")
        raise UsageError(
            f"lead={lead} is not in this verification, which holds {held}; "
            f"koopscope.verify(fit, trajectory, lead={lead}) measures it"
        )
    return int(found[0])


def flat_at(verification: xr.DataTree, child: str, position: int) -> Floats:
    """Read ``error`` or ``evolution`` at one lead, shape ``(weight,)``."""
    pieces = [
        verification[child][slot.name].to_numpy()[position].ravel()
        for slot in fitted_weights(verification).tensors
    ]
    return np.concatenate(pieces)


def columns_of(verification: xr.DataTree, child: str, chosen: list[int]) -> Floats:
    """Read ``error`` or ``evolution`` of a few weights at all leads, shape ``(lead, weight)``."""
    weights = fitted_weights(verification)
    columns = []
    for flat in chosen:
        name, index = weights.locate(flat)
        columns.append(np.asarray(verification[child][name].variable[(slice(None), *index)].values))
    return np.stack(columns, axis=1)
