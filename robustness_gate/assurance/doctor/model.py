"""Checks that need the model, in a separate process because untrusted files may hang or crash it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from robustness_gate.assurance.doctor import asking, fit, machine, tokenizer
from robustness_gate.assurance.doctor.files import Stored
from robustness_gate.assurance.doctor.findings import Check, Code, can_run, first_line, found, problem
from robustness_gate.assurance.doctor.loading import Original, load_checkpoint
from robustness_gate.errors import GateError
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.suite import Suite
from robustness_gate.system import bounded
from robustness_gate.system.bounded import Gone, Limits
from robustness_gate.system.sentences import size as written_size

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def in_a_child(
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
    limits: Limits,
    step: Callable[[str], None],
) -> list[Check]:
    """Make the checks that need the model, in a separate process because untrusted files may hang or crash it."""
    checks, doing = list[Check](), ""
    size = max(each.bytes for each in (candidate, original) if each is not None)
    try:
        for message in bounded.stream(
            _tell, candidate, original, device, suite, limits=limits, size=size, name="child of doctor"
        ):
            if isinstance(message, Check):
                checks.append(message)
            else:
                doing = message
                step(doing)
    except Gone as error:
        step_name = doing or "starting"
        checks.append(
            found("checkpoint", "PROBLEM", "limits", Code.OVER_A_LIMIT, step=step_name, message=error.message)
        )
    return checks


def _tell(
    send: Callable[[Check | str], None],
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
) -> None:
    for check in _loaded(candidate, original, device, suite, send):
        send(check)  # written at once: a later check may hang


def _loaded(
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Load the model as a run would, ask it a question, and try every attack's sham."""
    dtype = suite.record.dtype if suite else "float32"
    step("importing torch and transformers")
    with _silence():
        try:
            from robustness_gate.engine import load  # noqa: F401 - a broken installation fails here

            seen = machine.device(device, candidate.parameters * DTYPE_BYTES[dtype], dtype)
        except GateError as error:
            seen = (problem("machine", "device", error),)
        except Exception as error:  # noqa: BLE001 - a half-installed library fails with any error
            seen = (found("machine", "PROBLEM", "run extra", Code.CANNOT_BE_IMPORTED, message=first_line(error)),)
        yield from seen
        if not can_run(seen):
            return
        step(f"loading the model ({written_size(candidate.bytes)})")
        name = "loading"
        try:
            loaded = load_checkpoint(candidate.place, dtype, device)
            beside = Original(original, dtype, device)
            yield from _aside(loaded, candidate)
            name = "asking"
            yield from asking.speech(loaded, suite, step)
            name = "tokenizer"
            yield from tokenizer.tokenizers(loaded, original, suite, step)
            name = "answering"
            yield from asking.answering_of(loaded, beside, suite, step)
        except Exception as error:  # noqa: BLE001 - a run would fail with the same error, of any type
            yield problem("checkpoint", name, error)
            return
        yield _blocks(loaded)
        yield from fit.shams(loaded, suite, beside, step)


def _aside(loaded: LoadedModel, stored: Stored) -> Iterator[Check]:
    """Tensors of the files that the model's family declares as unused. All others are in the model or were refused."""
    from robustness_gate.engine.account import left_aside

    if names := left_aside(loaded.model, (stored.place.base or stored.place).path):
        yield found("checkpoint", "note", "tensors", Code.TENSORS_LEFT_ASIDE, tensors=tuple(names))


def _blocks(loaded: LoadedModel) -> Check:
    from robustness_gate.engine.anatomy import dissect

    try:
        blocks = dissect(loaded.model).blocks
    except Exception as error:  # noqa: BLE001 - an unknown architecture may fail with any error
        return found("checkpoint", "note", "blocks", Code.BLOCKS_UNKNOWN, message=first_line(error))
    order = "attention and MLP in parallel" if blocks[0].parallel else "attention, then MLP"
    return found("checkpoint", "ok", "blocks", Code.BLOCKS, blocks=len(blocks), order=order)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the libraries' output while they load; the checks report what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
