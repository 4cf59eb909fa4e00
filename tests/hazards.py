"""Forms of a hazard for tests: what a suite would make of some items and a form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from robustness_gate import tasks
from robustness_gate.records.attack import Hazard, Target
from robustness_gate.records.questions import Form, Item


def hazard(items: Sequence[Item], form: Form | None = None, kind: str = "multiple_choice") -> Hazard:
    """A hazard with these dev items and no corpora."""
    return Hazard("hazard", kind, form or Form(), tuple(items), {}, tasks.load(kind))


def also_in(target: Target, *forms: Form) -> Target:
    """The target, its first hazard asked in these forms too, as in another format of the task."""
    first = target.hazards[0]
    more = (
        dataclasses.replace(first, name=f"{first.name}.chat" if form.chat else f"{first.name}-{number}", form=form)
        for number, form in enumerate(forms)
    )
    return dataclasses.replace(target, hazards=(*target.hazards, *more))
