"""What a run will take, before it runs: tokens, operations, memory and hours of each trial. No torch, nothing loaded.

Tokens come from arithmetic over the plan, or from the `cost.json` of an earlier run of the same suite; memory always
comes from `memory.py`. What is not known is left out by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robustness_gate import attacks
from robustness_gate.errors import UsageError
from robustness_gate.inputs import memory
from robustness_gate.inputs.memory import Way
from robustness_gate.inputs.shape import Shape, shape_of
from robustness_gate.planning.devices import KINDS, SHARE, Device
from robustness_gate.planning.plan import Prepared
from robustness_gate.planning.tokens import Planned, Tokens
from robustness_gate.records.cost import AttemptCost, Costs
from robustness_gate.records.encode import NotPlain, decode, parse
from robustness_gate.records.trial import Trial
from robustness_gate.records.work import Training, Work
from robustness_gate.verdict import label

LEVELS = 4
"""Bytes for each weight that is scored: its level on two data sets, for this setting and for the best so far."""
READS, LEARNS = 2, 6
"""Floating-point operations for each parameter and token, without and with a gradient. An adapter's gradient takes
about 4, so training one is counted too high."""


@dataclass(frozen=True)
class Estimate:
    """The prediction for one trial."""

    trial: Trial
    tokens: Tokens | None
    """None where the earlier run has no such trial that ended well."""
    operations: float | None
    device: memory.Terms
    """The terms of its peak on the device."""
    way: Way
    """How training steps are made there, by what fits; the plain one where nothing is trained."""
    host: memory.Terms
    hours: float | None
    """None without figures of a device and without a measurement."""
    declared: bool
    """Whether the attack declares its own passes and memory: a plug-in's may not."""
    too_large: bool
    """Whether the peak is more than the named device has; false also where no device with a memory is named."""

    @property
    def device_bytes(self) -> float:
        """The peak on the device."""
        return memory.total(self.device)

    @property
    def host_bytes(self) -> float:
        """The peak in the machine's own memory."""
        return memory.total(self.host)


def read_costs(path: Path, suite_sha256: str) -> Costs:
    """An earlier run's `cost.json`. Raises UsageError where it is none, cannot be true, or is of another suite."""
    try:
        raw = path.read_bytes()
        parse(raw)
        found = decode(Costs, raw)
    except (OSError, NotPlain, ValidationError) as error:
        first = _first_fault(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise UsageError(
            f"this is no cost.json of a run: {first}", remedy="Name the file in a run's folder.", where=str(path)
        ) from None
    seen = set[tuple[str, int]]()
    for place, each in enumerate(found.attempts):
        if (each.trial, each.attempt) in seen:
            raise UsageError(
                f"attempts.{place} is listed twice: it was not written by a run.",
                remedy="Name the file in a run's folder.",
                where=str(path),
            )
        seen.add((each.trial, each.attempt))
        if each.spent is not None and each.spent.loading_seconds > each.seconds:
            raise UsageError(
                f"attempts.{place}.spent.loading_seconds is {each.spent.loading_seconds:g}, more than the "
                f"{each.seconds:g} seconds of its attempt: it was not written by a run.",
                remedy="Name the file in a run's folder.",
                where=str(path),
            )
    if found.suite_sha256 != suite_sha256:
        raise UsageError(
            f"it was written with another suite ('{found.suite}', sha256 {found.suite_sha256[:16]}…): its tokens are "
            "not those of this plan.",
            remedy="Name a run of this suite, or leave --cost-from out.",
            where=str(path),
        )
    return found


def _first_fault(error: ValidationError) -> str:
    """The place of the first wrong field, and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def estimates(prepared: Prepared, device: Device | None, earlier: Costs | None) -> tuple[Estimate, ...]:
    """The prediction for every trial of the plan, in its order.

    Args:
        prepared: the plan.
        device: with its figures hours follow from operations, and what does not fit is named.
        earlier: the costs of an earlier run of the same suite: tokens are then those that were counted there, and hours
            those that it took, times the ratio of parameters, unless `device` is given.

    Raises:
        CheckpointError: a model's sizes cannot be read from its files.
    """
    shapes = {each.manifest.digest: shape_of(each.place) for each in prepared.plan.subjects}
    made = Planned(prepared.suite_data)
    return tuple(_estimate(trial, made, shapes, device, earlier) for trial in prepared.plan.trials)


def _estimate(
    trial: Trial, made: Planned, shapes: Mapping[str, Shape], device: Device | None, earlier: Costs | None
) -> Estimate:
    shape = shapes[trial.subject]
    work = made.work(trial, shape.layers)
    if earlier is None:
        tokens: Tokens | None = made.tokens(trial, work)
    else:
        tokens = measured_tokens(earlier.attempts, trial, shape.parameters)
    original = shapes.get(trial.reference) if trial.reference is not None else None
    terms, way = _on_device(trial, shape, work, made.longest(trial), device, original)
    learns = LEARNS + (READS if way.checkpointed else 0)
    operations = None if tokens is None else shape.parameters * (READS * tokens.read + learns * tokens.learnt)
    hours = None
    if tokens is not None and operations is not None:
        if device is not None:
            peak = device.peaks.get(KINDS[trial.dtype])
            hours = None if peak is None else operations / (peak * SHARE) / 3600
        elif tokens.seconds is not None:
            hours = tokens.seconds / 3600
    copied = work.copies * _trained_bytes(shape, trial.dtype, work.training) + 4.0 * shape.width * work.vectors
    if work.scored is not None:
        copied += LEVELS * shape.inside
    count = 0.0 if work.training is None else memory.trained(shape, work.training)
    total = memory.total(terms)
    return Estimate(
        trial=trial,
        tokens=tokens,
        operations=operations,
        device=terms,
        way=way,
        host=memory.host(shape, trial.dtype, copied, original is not None, memory.on_host(trial.dtype, way, count)),
        hours=hours,
        declared=hasattr(attacks.load(trial.attack), "work"),
        too_large=device is not None and device.bytes is not None and total > device.bytes,
    )


def _on_device(
    trial: Trial, shape: Shape, work: Work, length: float, device: Device | None, original: Shape | None
) -> tuple[memory.Terms, Way]:
    """The terms of the peak on the device, and how training steps are made there."""
    beside = {} if original is None else {"the original": float(original.loaded * memory.BYTES[trial.dtype])}
    states, way = [memory.asking(shape, trial.dtype, length)], Way()
    if work.scored is not None:
        states.append(memory.scoring(shape, trial.dtype, work.scored))
    if work.training is not None:
        count = memory.trained(shape, work.training)
        if device is not None and device.bytes is not None:
            room = device.bytes - memory.total(beside) - shape.loaded * memory.BYTES[trial.dtype]
            way = memory.fitting(shape, trial.dtype, work.training, count, room)
        states += memory.training(shape, trial.dtype, work.training, way, count)
    most = max(memory.total(each) for each in states)
    return {**next(each for each in states if memory.total(each) == most), **beside}, way


def _trained_bytes(shape: Shape, dtype: str, training: Training | None) -> float:
    """Bytes of one copy of what an attack trains or changes."""
    if training is not None and training.method != "full":
        return 4.0 * training.rank * shape.sides
    return float(shape.parameters * memory.BYTES[dtype])


# --- tokens that were counted -----------------------------------------------------------------------------------------


def measured_tokens(attempts: Sequence[AttemptCost], trial: Trial, parameters: int) -> Tokens | None:
    """What the last attempt at this trial took that ended well, on another checkpoint or on this one.

    Tokens hold for the same tokenizer; seconds are scaled by the ratio of parameters.
    """
    wanted = (trial.role.value, trial.control, label(trial), trial.seed_index)
    for each in reversed(attempts):
        its = each.spent
        if each.key == wanted and each.status == "ok" and its is not None and its.parameters:
            asked = each.seconds - its.loading_seconds
            return Tokens(float(its.tokens_read), float(its.tokens_learnt), seconds=asked * parameters / its.parameters)
    return None
