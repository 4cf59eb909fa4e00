"""Load the models as a run does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from robustness_gate.assurance.doctor.files import Stored
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.checkpoint.place import CheckpointRef

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel


def reference(original: Stored | None, dtype: str, device: str) -> Callable[[], Any]:
    """A function that opens the original; it raises NotApplicable where none was given."""

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        if original is None:
            raise NotApplicable("it needs the original model, and none was given", remedy="Give --original DIR.")
        yield load_checkpoint(original.place, dtype, device)

    return opened


def load_checkpoint(place: CheckpointRef, dtype: str, device: str) -> LoadedModel:
    """A checkpoint loaded on a device in a dtype."""
    from robustness_gate.engine.load import load

    return load(place.path, dtype=dtype, device=device, base=place.base.path if place.base is not None else None)
