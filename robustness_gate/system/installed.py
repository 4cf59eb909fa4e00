"""Which libraries of the extra `run` are installed. Found and not imported: importing torch takes seconds."""

from __future__ import annotations

import importlib.util

from robustness_gate.errors import SetupError

RUN_EXTRA = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")
"""The libraries without which no attack can run. The extra's other libraries are optional."""
INSTALL = "pip install 'robustness-gate[run]'"


def is_there(name: str) -> bool:
    """Whether a library can be found."""
    return importlib.util.find_spec(name) is not None


def missing() -> list[str]:
    """The libraries of RUN_EXTRA that cannot be found."""
    return [name for name in RUN_EXTRA if not is_there(name)]


def require_run_extra() -> None:
    """Raises SetupError, with what to install, where no attack can run."""
    if names := missing():
        raise lacking(*names)


def lacking(*names: str) -> SetupError:
    """The error for these libraries."""
    words = f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} not installed."
    return SetupError(words, remedy=f"Install what attacks need: {INSTALL}.")
