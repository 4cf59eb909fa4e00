"""The original model beside the candidate: loaded once a process, and kept from one trial to the next where it fits.

What an attack gets is always as if it had just been loaded: where anything of the kept model differs from that, it is
loaded anew, so that what one attack leaves changed cannot weaken the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel

ASKING = 2
"""In a trial that uses it, it is kept after a block while twice the size of its weights is free: passes take less where
a model is large enough for memory to matter."""
TRAINING = 20
"""It is kept beside other trials while so many bytes are free for each of its parameters: training all weights of the
candidate takes 14 and its passes. Else it is loaded again when it is needed."""


class Beside:
    """The original in memory."""

    def __init__(self, load: Callable[[str, str], LoadedModel]) -> None:
        self._load = load
        """Loads a checkpoint, by its digest, in a dtype."""
        self._key: tuple[str, str] | None = None
        self._model: Any = None
        self._before: dict[str, Any] = {}
        """Its state when it was loaded."""

    @contextlib.contextmanager
    def opened(self, digest: str, dtype: str) -> Iterator[LoadedModel]:
        """The original for a block. Raises NotLoaded."""
        if self._key != (digest, dtype) or self._is_changed():
            self.forget()
            self._model = self._load(digest, dtype)
            self._key, self._before = (digest, dtype), _state_of(self._model)
        model = self._model
        _measured_anew(model)
        try:
            yield model
        finally:
            if not self._fits(ASKING * _bytes_a_parameter(model)):
                self.forget()

    def make_room(self) -> None:
        """Drop it where a trial that does not use it may need the memory."""
        if self._model is not None and not self._fits(TRAINING):
            self.forget()

    def forget(self) -> None:
        """Load it anew when it is needed."""
        self._key, self._model, self._before = None, None, {}

    def _fits(self, bytes_a_parameter: float) -> bool:
        """Whether so much is free on its device for each of its parameters."""
        from robustness_gate.engine import frugal, usage

        if self._model is None:
            return True
        room = frugal.free(next(self._model.model.parameters()).device)
        return room is None or bytes_a_parameter * usage.parameters(self._model.model) <= room

    def _is_changed(self) -> bool:
        from robustness_gate.engine import state

        return next(state.changes(self._before, _state_of(self._model)), None) is not None


def _bytes_a_parameter(loaded: Any) -> int:
    return int(next(loaded.model.parameters()).element_size())


def _state_of(loaded: Any) -> dict[str, Any]:
    """What its answers follow from: sums of weights and buffers, structure, hooks and tokenizer."""
    from robustness_gate.engine import state

    return {
        "weights": state.sums_of(loaded.model),
        "buffers": state.sums_of_buffers(loaded.model),
        **state.of_structure(loaded.model),
        "tokenizer": state.of_tokenizer(loaded.tokenizer),
    }


def _measured_anew(loaded: Any) -> None:
    """Forget what was measured of it: which passes are exact is measured on the prompts of this trial."""
    from robustness_gate.engine import padding, shared

    padding.forget(loaded.model)
    shared.forget(loaded.model)
