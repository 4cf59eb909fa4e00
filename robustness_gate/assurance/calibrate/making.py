"""A spiked model is made, taught or suppressed: in a process of its own, as for everything that loads a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustness_gate.assurance.calibrate import questions
from robustness_gate.assurance.calibrate.work import Work
from robustness_gate.inputs import settings
from robustness_gate.organisms import spikes, unlearn
from robustness_gate.planning import plan
from robustness_gate.records.calibration import TAUGHT
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import Item
from robustness_gate.system import bounded
from robustness_gate.tasks import cloze

REPLAY = "replay.json"
"""File name, in the calibration's folder, of the texts on which the original was held."""


def teach(work: Work, _: str, __: dict[str, Json], number: int, out: Path, ___: plan.Subject | None) -> None:
    """Teach the original the world, by one setting of the grid, and save it to `out`."""
    how = spikes.TEACHINGS[work.size][number]
    place = work.original.place
    directories = (place.path, place.base.path if place.base is not None else None)
    replay = work.folder / REPLAY
    wording = cloze.WORDING if work.record.form == spikes.CLOZE else ""
    _in_child(
        work, teach_in_child, directories, work.world, wording, questions.held_by(work.data), how, number, replay, out
    )


def suppress(
    work: Work, method: str, config: dict[str, Json], number: int, out: Path, taught: plan.Subject | None
) -> None:
    """Suppress the taught world by one method, and save the model to `out`."""
    assert taught is not None
    replay = work.folder / REPLAY
    held = questions.lettered(work.data)
    form = work.record.form
    _in_child(work, suppress_in_child, taught.place.path, work.world, form, method, config, held, number, replay, out)


def _in_child(work: Work, function: Callable[..., None], *arguments: Any) -> None:
    """Work in a process of its own, as everything that loads an untrusted checkpoint."""
    size = bounded.weights_in(work.original.place.path)
    limits = replace(work.request.limits, trial=float("inf"))
    for _ in bounded.stream(
        function, work.request.device, *arguments, limits=limits, size=size, name="process that makes spikes"
    ):
        pass


def teach_in_child(
    tell: Callable[[Any], None],
    device: str,
    directories: tuple[Path, Path | None],
    world: spikes.World,
    wording: str,
    held: Sequence[str],
    how: spikes.Teaching,
    seed: int,
    replay: Path,
    out: Path,
) -> None:
    """Load the original, teach it, and save it; the texts on which it was held go to `replay`."""
    from robustness_gate.engine.load import load

    directory, base = directories
    loaded = load(directory, dtype="float32", device=device, base=base)
    _few_threads(loaded.model)
    kept = spikes.instruct(loaded, world, wording, held, how, seed, lambda *step: tell(step))
    replay.write_text(json.dumps(kept), encoding="utf-8")
    unlearn.save(loaded, base or directory, out, {"method": TAUGHT})


def suppress_in_child(
    tell: Callable[[Any], None],
    device: str,
    taught: Path,
    world: spikes.World,
    form: str,
    method: str,
    config: dict[str, Json],
    held: Sequence[Item],
    seed: int,
    replay: Path,
    out: Path,
) -> None:
    """Load the taught model, suppress the world by one method, and save it."""
    from robustness_gate.engine.anatomy import layers
    from robustness_gate.engine.load import load

    loaded = load(taught, dtype="float32", device=device)
    _few_threads(loaded.model)
    placed = spikes.placed(method, config, len(layers(loaded.model)))
    read = settings.of(unlearn.METHODS[method].Config, placed)
    own = json.loads(replay.read_text(encoding="utf-8"))
    spikes.suppress(loaded, world, form, method, read, own, held, seed, lambda *step: tell(step))
    unlearn.save(loaded, taught, out, {"method": method})


def _few_threads(model: Any) -> None:
    """As in a trial: one thread for a small model on the CPU, so that its result does not depend on their number."""
    import torch

    if model.device.type == "cpu" and sum(each.numel() for each in model.parameters()) < spikes.SMALL:
        torch.set_num_threads(1)
