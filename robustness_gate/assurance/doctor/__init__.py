"""Checks before a long run: can the gate run here on this checkpoint, and which attacks will work?

Checks that need no torch come first, so that a machine without it still gets some results. Then the model is loaded as
in a run, asked one question, and every attack is tried at strength zero (its SHAM) on a few questions of the invented
world: an attack that does not apply to this model is reported now and not after hours. There is no list here of what
each attack needs, so no list can be out of date.

Each finding is *ok*, a *note* (the gate runs, with a limitation) or a *PROBLEM* (the gate cannot
run, or a trial that the suite asks for would fail).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robustness_gate import attacks
from robustness_gate.assurance.doctor import asking, files, machine, prospect
from robustness_gate.assurance.doctor.findings import Check, Code, can_run, found
from robustness_gate.assurance.doctor.model import in_a_child
from robustness_gate.system.bounded import Limits

__all__ = ("Check", "Code", "can_run", "examine")


def examine(
    checkpoint: str,
    *,
    device: str = "auto",
    suite: Path | None = None,
    policy: Path | None = None,
    original: str | None = None,
    base: str | None = None,
    weights: bool = True,
    limits: Limits | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> tuple[Check, ...]:
    """Check the machine, the checkpoint, and whether each attack applies to it.

    Args:
        checkpoint: as in `run`: a directory, `hf://OWNER/NAME@COMMIT` or `organism:NAME`.
        device: as in `run`.
        suite: its attacks, precision and questions; without one, every attack with its defaults.
        policy: the report also says whether a PASS is possible under it.
        original: the model before unlearning, for attacks that use it.
        base: the base model of an adapter.
        weights: False checks the files alone.
        limits: time limits for loading and for a text; None: the defaults of a run.
        step: called with the name of each step, since loading may take minutes.
    """
    step("looking at the installation")
    checks = [*machine.installed(), machine.disk()]
    usable = not any(check.state == "PROBLEM" for check in checks)
    read, of_suite = files.suite_of(suite)
    step("reading and hashing the checkpoint")
    seen, candidate = files.files_of(checkpoint, base, read.record.dtype if read else "float32")
    checks += seen
    if candidate is not None:
        checks += prospect.of(candidate.place, policy, read)
    seen, before = files.original_of(original, candidate)
    checks += seen
    if not usable:
        checks.append(found("checkpoint", "note", "loading", Code.NOT_LOADED_INSTALLATION))
    elif not weights:
        checks.append(found("checkpoint", "note", "loading", Code.NOT_LOADED_ASKED))
    elif suite is not None and read is None:  # it comes first: loading may take minutes
        checks.append(found("checkpoint", "note", "loading", Code.NOT_LOADED_SUITE))
    elif candidate is not None and suite is None and (gap := asking.no_questions()):
        checks.append(gap)
    elif candidate is not None:
        checks += in_a_child(candidate, before, device, read, limits or Limits(), step)
        if any(check.part == "attacks" for check in checks) or not can_run((*checks,)):
            return (*_ordered([*of_suite, *checks]),)
    checks += of_suite
    names = sorted({entry.attack for entry in read.record.attacks} if read else attacks.names())
    checks.append(found("attacks", "note", "attacks", Code.ATTACKS_NOT_TRIED, attacks=", ".join(names)))
    return (*_ordered(checks),)


def _ordered(checks: list[Check]) -> list[Check]:
    """By part; within a part in the order of finding."""
    parts = ("machine", "checkpoint", "attacks")
    return sorted(checks, key=lambda check: parts.index(check.part))
