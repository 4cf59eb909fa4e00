"""Load the models as a run does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from robustness_gate.assurance.doctor.files import Stored
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.running.beside import Beside

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel


class Original:
    """The original, which is loaded at its first use and kept for the next where it fits (`running.beside`)."""

    def __init__(self, stored: Stored | None, dtype: str, device: str) -> None:
        self.stored = stored
        """None where none was given."""
        self._dtype = dtype
        self._beside = Beside(lambda *_: load_checkpoint(self._given().place, dtype, device))

    @contextlib.contextmanager
    def opened(self) -> Iterator[LoadedModel]:
        """The original for a block. Raises NotApplicable where none was given."""
        self._given()
        with self._beside.opened("", self._dtype) as loaded:
            yield loaded

    def make_room(self) -> None:
        """Drop it where the next attack may need the memory for training."""
        self._beside.make_room()

    def _given(self) -> Stored:
        if self.stored is None:
            raise NotApplicable("it needs the original model, and none was given", remedy="Give --original DIR.")
        return self.stored


def load_checkpoint(place: CheckpointRef, dtype: str, device: str) -> LoadedModel:
    """A checkpoint loaded on a device in a dtype."""
    from robustness_gate.engine.load import load

    return load(place.path, dtype=dtype, device=device, base=place.base.path if place.base is not None else None)
