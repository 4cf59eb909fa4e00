"""What an attempt takes in its process: time, memory and tokens. Nothing here changes an answer or ends an attempt."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from robustness_gate import __version__
from robustness_gate.records.cost import Machine, Spent
from robustness_gate.system import usage


class Meter:
    """Counts for one process, from one attempt to the next."""

    def __init__(self) -> None:
        self._tokens: Any = None
        """`engine.usage.Tokens` of all models of this process, once there is one."""
        self._read = self._learnt = 0
        """Its numbers when the attempt began."""
        self.begin()

    def begin(self) -> None:
        """Count anew: an attempt begins."""
        self._since = usage.restart_peak()
        self._cpu, self._loading = time.process_time(), 0.0
        self._model: Any = None
        if self._tokens is not None:
            from robustness_gate.engine.usage import restart_peak

            self._read, self._learnt = self._tokens.read, self._tokens.learnt
            restart_peak()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """A block that loads something."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._loading += time.monotonic() - begun

    def watch(self, model: Any) -> None:
        """Count the tokens of a model that was just loaded."""
        from robustness_gate.engine.usage import Tokens, watch

        self._tokens = self._tokens or Tokens()
        watch(model, self._tokens)

    def examines(self, loaded: Any) -> None:
        """Note the `LoadedModel` of this attempt."""
        self._model = None if loaded is None else loaded.model

    def spent(self) -> Spent | None:
        """What the attempt has taken until now; None where the system or the device does not answer."""
        try:
            return self._spent()
        except (OSError, RuntimeError) as error:  # a GPU after a fault answers nothing
            sys.stderr.write(f"what the attempt took is not known: {type(error).__name__}\n")
            return None
        finally:
            self._model = None

    def _spent(self) -> Spent:
        found: dict[str, Any] = {"device_peak_bytes": None, "parameters": None, "dtype": "", "machine": None}
        if self._model is not None:
            from robustness_gate.engine import usage as of_torch

            device = next(self._model.parameters()).device
            found = {
                "device_peak_bytes": of_torch.peak(device),
                "parameters": of_torch.parameters(self._model),
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "machine": _machine(device),
            }
        return Spent(
            cpu_seconds=time.process_time() - self._cpu,
            loading_seconds=self._loading,
            host_peak_bytes=usage.peak(),
            host_peak_since=self._since,
            tokens_read=self._tokens.read - self._read if self._tokens is not None else 0,
            tokens_learnt=self._tokens.learnt - self._learnt if self._tokens is not None else 0,
            **found,
        )


def _machine(device: Any) -> Machine:
    import torch

    from robustness_gate.engine.usage import name_and_memory

    name, its_bytes = name_and_memory(device)
    return Machine(
        device=device.type,
        name=name or usage.processor(),
        device_bytes=its_bytes,
        host_bytes=usage.memory(),
        threads=torch.get_num_threads(),
        versions={"robustness-gate": __version__, **{each: version(each) for each in ("torch", "transformers")}},
    )
