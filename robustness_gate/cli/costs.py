"""`plan --cost`: the predictions as a table, with their assumptions, and what will not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from robustness_gate.cli.common import console_for_output, print_grid, say, say_json
from robustness_gate.errors import UnknownWord
from robustness_gate.inputs import memory
from robustness_gate.inputs.checkpoint.place import model_type
from robustness_gate.inputs.memory import Way
from robustness_gate.planning import cost, tokens
from robustness_gate.planning.devices import KINDS, SHARE, Device, device
from robustness_gate.records.encode import Json
from robustness_gate.records.trial import Role
from robustness_gate.verdict import label
from robustness_gate.verdict.wording import model_name

if TYPE_CHECKING:
    from pathlib import Path

    from robustness_gate.planning.cost import Estimate
    from robustness_gate.planning.plan import Prepared
    from robustness_gate.records.cost import Costs
    from robustness_gate.records.trial import Trial

UNKNOWN = "-"


def show(prepared: Prepared, cost_from: Path | None, figures: str | None, *, as_json: bool) -> None:
    """Print what each trial will take.

    Raises:
        UsageError: the file is no cost.json of this suite, or there are no figures of the device.
        CheckpointError: a model's sizes cannot be read.
    """
    named = None if figures is None else device(figures)
    earlier = None if cost_from is None else cost.read_costs(cost_from, prepared.suite.sha256)
    found = cost.estimates(prepared, named, earlier)
    if as_json:
        say_json([_plain(each) for each in found])
        return
    _show_table(found)
    for line in _lines(found, named, earlier):
        say(line)
    if others := sorted({model_type(each.place) for each in prepared.plan.subjects} - memory.CHECKED):
        say(
            "memory of training steps: counted as for a Llama, which can be too low or too high for "
            f"{', '.join(repr(each) for each in others)} (docs/cost.md has what was compared)"
        )


def _show_table(found: Sequence[Estimate]) -> None:
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    grid.add_column("trial", no_wrap=True)
    for name in ("tokens read", "learnt", "PFLOP", "device GB", "host GB", "time"):
        grid.add_column(name, justify="right")
    for each in found:
        its, more = each.tokens, ">" if each.tokens is not None and each.tokens.omitted else ""
        larger = "" if each.declared else ">"
        grid.add_row(
            escape(_name(each.trial)),
            *(
                [UNKNOWN] * 3
                if its is None or each.operations is None
                else [more + _short(its.read), more + _short(its.learnt), f"{more}{each.operations / 1e15:,.3g}"]
            ),
            f"{larger}{each.device_bytes / 1e9:,.1f}",
            f"{larger}{each.host_bytes / 1e9:,.1f}",
            UNKNOWN if each.hours is None else f"{more}{_time(each.hours)}",
        )
    print_grid(console_for_output(), grid)


def _lines(found: Sequence[Estimate], named: Device | None, earlier: Costs | None) -> Iterator[str]:
    """The sum, the assumptions, what is not counted, and what does not fit."""
    known = [each for each in found if each.tokens is not None and each.operations is not None]
    omitted = sorted({each.tokens.omitted for each in known if each.tokens is not None and each.tokens.omitted})
    operations = sum(each.operations for each in known if each.operations is not None)
    hours = [each.hours for each in known if each.hours is not None]
    least = "at least " if omitted or len(known) < len(found) else ""
    yield f"in all {least}{operations / 1e15:,.3g} PFLOP" + (f", {least}{_time(sum(hours))}" if hours else "")
    yield from _tokens(earlier)
    if named is not None:
        yield from _peaks(found, named)
    if named is not None:
        moved = any(each.way.states == "host" for each in found)
        yield "not in the time: loading, tokenising, work on the weights, an idle device" + (
            ", moving the optimiser's numbers to the device and back at every step" if moved else ""
        )
    elif earlier is not None:
        yield "not in the time: loading. In it, times the same ratio: the start of the process that ran a trial first"
    if omitted:
        yield f"not counted: {', '.join(omitted)}"
    if lost := len(found) - len(known):
        yield _not_predicted(lost)
    yield from _fit(found, named)


def _peaks(found: Sequence[Estimate], named: Device) -> Iterator[str]:
    """At what rate the time is counted."""
    for kind in sorted({KINDS[each.trial.dtype] for each in found}):
        peak = named.peaks.get(kind)
        yield (
            f"time: there is no figure of {named.name} in {kind}"
            if peak is None
            else f"time: {cost.READS} operations a parameter and token, {cost.LEARNS} with a gradient, at an assumed "
            f"{SHARE:.0%} of {peak / 1e12:,.4g} TFLOP/s in {kind} ({named.source})"
        )


def _not_predicted(lost: int) -> str:
    trials, were = ("trial", "was") if lost == 1 else ("trials", "were")
    return f"not predicted: {lost} {trials} that did not end well, or {were} not made, in that run"


def _tokens(earlier: Costs | None) -> Iterator[str]:
    if earlier is None:
        yield f"tokens: by arithmetic, {tokens.CHARACTERS} characters each, every prompt read whole, no padding"
        return
    parameters = sorted({each.spent.parameters for each in earlier.attempts if each.spent and each.spent.parameters})
    machines = sorted({each.spent.machine.name for each in earlier.attempts if each.spent and each.spent.machine})
    yield (
        f"tokens: as counted in a run of '{earlier.suite}', padding included; they hold for the same tokenizer. Time, "
        f"unless a device is named: as they took on {', '.join(machines) or 'an unknown machine'}, times the ratio of "
        f"parameters (there {', '.join(_short(each) for each in parameters) or 'unknown'})"
    )


def _fit(found: Sequence[Estimate], named: Device | None) -> Iterator[str]:
    """What does not fit on the device, and what is trained in another way because of its size."""
    if named is None or named.bytes is None:
        yield "memory: peaks by arithmetic (docs/cost.md); name a device's figures to see what fits"
        return
    has = f"{named.name} has {named.bytes / 1e9:,.0f} GB"
    for each in found:
        needs = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in each.device.items())
        if each.too_large:
            yield f"does not fit: {_name(each.trial)} needs {each.device_bytes / 1e9:,.1f} GB, {has} ({needs})"
        elif how := _how(each.way):
            yield f"no room for plain training steps, so {how}: {_name(each.trial)} ({needs}; {has})"
    if any(each.too_large for each in found):
        yield (
            "what to do: a device with more memory, fewer examples in a batch, or an adapter in place of all weights "
            "where the policy does not require them"
        )
    elif lacking := sorted({each.trial.attack for each in found if not each.declared}):
        yield f"all that is counted fits, one trial at a time ({has}); not counted is what {', '.join(lacking)} keeps"
    else:
        yield f"every trial fits by arithmetic, one at a time: {has}"


def _how(way: Way) -> str:
    """How training steps are made for want of memory; empty for plain ones."""
    match way.states:
        case "device":
            found = []
        case "in_place":
            found = ["weights are trained in place, without float32 copies"]
        case "host":
            found = ["the optimiser's numbers are in the host's memory"]
        case unknown:
            raise UnknownWord("place of an optimiser's numbers", unknown)
    if way.checkpointed:
        found.append("blocks are computed again in the backward pass")
    if way.rows:
        found.append(f"{way.rows} example{'s' * (way.rows > 1)} of a batch go through the model together")
    return " and ".join(found)


def _name(trial: Trial) -> str:
    """A trial's label and seed, and its model where that is not the candidate."""
    role = "" if trial.role == Role.CANDIDATE else f" [{model_name(trial)}]"
    return f"{label(trial)}, seed {trial.seed_index}{role}"


def _time(hours: float) -> str:
    """A length of time in the unit that a person would take."""
    seconds = 3600 * hours
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{hours:,.1f} h"


def _short(number: float) -> str:
    """A number with three digits and its unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _plain(each: Estimate) -> Json:
    return {
        "trial": each.trial.id,
        "label": label(each.trial),
        "role": each.trial.role.value,
        "control": each.trial.control,
        "seed_index": each.trial.seed_index,
        "tokens": each.tokens,
        "operations": each.operations,
        "device_bytes": dict(each.device),
        "host_bytes": dict(each.host),
        "training": None if each.way == Way() else each.way,
        "hours": each.hours,
        "too_large": each.too_large,
    }
