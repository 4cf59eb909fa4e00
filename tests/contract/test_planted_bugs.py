"""The instrument's instrument: bugs as attack code has them, planted one at a time, each found by the self-test.

An attack with a bug finds nothing, and that looks like a clean model. So what guards against a broken attack (that it
bites where there is something, finds nothing where nothing is, does nothing at strength zero, clears its floors, leaves
the model as it was, obeys its seed) is tried on broken attacks. Takes minutes, so it is not among the everyday tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import form_rules
import pytest
import torch
from test_training_examples import mistaught

from robustness_gate import attacks, organisms
from robustness_gate.assurance import self_test
from robustness_gate.engine import direction, examples, latent, lens, scope, train
from robustness_gate.engine.state import changes, state_of
from robustness_gate.errors import PlanError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import bench
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Item
from robustness_gate.running import attempt, trial
from robustness_gate.running.executors import Event, Job, local
from robustness_gate.verdict.wording import sentence

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ITEMS = 160
"""Questions that judge: enough for bounds of eight points, a third of the whole."""

Patch = pytest.MonkeyPatch


class Bug(NamedTuple):
    """A mistake that someone could make, and the words in which it is found."""

    name: str
    attack: str
    plant: Callable[[Patch], None]
    found: str
    config: dict[str, Any] | None = None
    """Other settings than the self-test's, where the bug lies off its way."""


# --- the mistakes -----------------------------------------------------------------------------------------------------


def dead_hook(patch: Patch) -> None:
    patch.setattr(direction, "remover", lambda *_: lambda stream: stream)


def no_learning_rate(patch: Patch) -> None:
    whole = train.train
    patch.setattr(train, "train", lambda m, p, e, recipe, *rest: whole(m, p, e, recipe._replace_rate(0.0), *rest))
    patch.setattr(
        train.Recipe, "_replace_rate", lambda self, rate: dataclasses.replace(self, learning_rate=rate), raising=False
    )


def frozen_parameters(patch: Patch) -> None:
    """What is trained are copies, which the model does not read."""
    whole = scope.trainable

    @contextlib.contextmanager
    def copies(model: Any, *chosen: Any) -> Iterator[dict[str, torch.nn.Parameter]]:
        with whole(model, *chosen) as parameters:
            yield {name: torch.nn.Parameter(each.detach().clone()) for name, each in parameters.items()}

    patch.setattr(scope, "trainable", copies)


def zero_direction(patch: Patch) -> None:
    module = attacks.load("ablation")
    whole = module._directions
    patch.setattr(module, "_directions", lambda *a: {name: each * 0 for name, each in whole(*a).items()})


def shuffled_labels(patch: Patch) -> None:
    """The training answers are drawn by lot."""
    whole, lot = examples.answered, random.Random(0)

    def wrong(tokenizer: Any, item: Item, shift: int, form: Any) -> Any:
        return whole(tokenizer, dataclasses.replace(item, answer=lot.randrange(4)), shift, form)

    patch.setattr(examples, "answered", wrong)


def examples_not_shown(patch: Patch) -> None:
    patch.setattr(attacks.load("few_shot").Shown, "__call__", lambda _, question, form: (question, form))


def adapter_detached(patch: Patch) -> None:
    """The adapter is taken off before anyone looks at the model."""
    whole = scope.adapter

    @contextlib.contextmanager
    def detached(model: Any, **how: Any) -> Iterator[dict[str, torch.nn.Parameter]]:
        with whole(model, **(how | {"alpha": 0})) as parameters:
            yield parameters

    patch.setattr(scope, "adapter", detached)


def rounds_nothing(patch: Patch) -> None:
    patch.setattr(attacks.load("quantize"), "_rounded", lambda weight, *_: weight.clone())


def wrong_layer(patch: Patch) -> None:
    """Whatever layer is asked for, the last one is read."""
    patch.setattr(lens, "_between", lambda final, *_: final)


def verdict_items_leaked(patch: Patch) -> None:
    """The attack trains on what it is judged by, answers and all."""
    module = attacks.load("relearn")
    whole = module._training_examples
    verdict = suite_data().tasks["forget"].items

    def leaked(target: Any, config: Any, seed: int) -> Any:
        lessons, dev = whole(target, config, seed)
        form = dataclasses.replace(target.forms[0], header=target.corpora[config.source].header)
        drill = [examples.answered(target.tokenizer, item, shift, form) for item in verdict for shift in range(2)]
        return [[*lessons[0], *drill], *lessons[1:]], dev

    patch.setattr(module, "_training_examples", leaked)


def answer_in_the_prompt(patch: Patch) -> None:
    """The questions that are asked stand, with their answers, among those that an attack may show.

    No organism would notice: none can read a nonsense word out of its prompt. So it must not get that far.
    """
    whole = organisms.world
    patch.setattr(organisms, "world", lambda name: whole(name.replace("forget.relearn", "forget.verdict")))


def seed_ignored(patch: Patch) -> None:
    module = attacks.load("relearn")
    whole = module.attack
    patch.setattr(module, "attack", lambda target, config, _seed: whole(target, config, 0))


def handed_over_before_training(patch: Patch) -> None:
    whole = train.sweep

    def early(model: Any, parameters: Any, *others: Any) -> Any:
        before = scope.snapshot(parameters)
        done = whole(model, parameters, *others)
        scope.write(parameters, before)
        return done

    patch.setattr(train, "sweep", early)


def scope_left_open(patch: Patch) -> None:
    """Nothing is put back when the attack ends."""

    @contextlib.contextmanager
    def open_for_ever(model: Any, names: Any = None, _before: Any = None) -> Iterator[dict[str, torch.nn.Parameter]]:
        yield {n: p.requires_grad_(True) for n, p in model.named_parameters() if names is None or n in set(names)}

    patch.setattr(scope, "trainable", open_for_ever)


def control_for_candidate(patch: Patch) -> None:
    """The model that never knew is examined in the candidate's place."""
    whole = in_this_process

    def swapped(job: Job, trials: Any, workers: int = 1, *_: Any) -> Iterator[Event]:
        names = {name: gathered_digest(name) for name in ("oracle", "rmu")}
        places = dict(job.places)
        places[names["rmu"]] = places[names["oracle"]]
        yield from whole(dataclasses.replace(job, places=places), trials, workers)

    patch.setattr(local, "execute", swapped)


def vectors_not_added(patch: Patch) -> None:
    @contextlib.contextmanager
    def nothing(*_: Any, **__: Any) -> Iterator[None]:
        yield

    patch.setattr(latent, "at_first", nothing)


def mask_of_nothing(patch: Patch) -> None:
    patch.setattr(attacks.load("pruning"), "_zeroed", lambda *_: lambda _name, weight: weight)


def share_ignored(patch: Patch) -> None:
    """Every mixture is the candidate itself."""
    module = attacks.load("interpolate")
    patch.setattr(module, "attack", lambda target, config, _seed: _unmixed(target, config))


def _unmixed(target: Any, config: Any) -> Iterator[Any]:
    from robustness_gate.records.attack import AttackedModel

    for share in config.budgets:
        yield AttackedModel(target.lm, share, {"examples": 0.0, "steps": 0.0}, {"weight_change": 0.0})


def slips_left_out(patch: Patch) -> None:
    patch.setattr(attacks.load("perturb"), "perturbed", lambda _name, text, _rng: text)


def dress_left_off(patch: Patch) -> None:
    patch.setattr(attacks.load("reformat").Dressed, "__call__", lambda _, question, form: (question, form))


def nothing_added(patch: Patch) -> None:
    patch.setattr(direction, "adder", lambda *_: lambda stream: stream)


def sham_that_does_something(patch: Patch) -> None:
    module = attacks.load("relearn")
    patch.setattr(module, "SHAM", dataclasses.replace(module.SHAM, learning_rates=(5e-3,), min_steps=20))


def wrong_answers_shown(patch: Patch) -> None:
    """Every solved example gives the answer after the right one."""
    module = attacks.load("few_shot")
    whole = module._turned
    patch.setattr(module, "_turned", lambda item, place: after_the_right_one(whole(item, place)))


def wrong_answers_taught(patch: Patch) -> None:
    whole = examples.answered
    patch.setattr(examples, "answered", lambda t, item, *a, **how: whole(t, after_the_right_one(item), *a, **how))


def wrong_key_on_dev(patch: Patch) -> None:
    """Settings are chosen by a key that is one off."""
    whole = Hazard.read
    patch.setattr(Hazard, "read", lambda s, rows, items: whole(s, rows, [after_the_right_one(i) for i in items]))


def letters_where_words_are_asked(patch: Patch) -> None:
    whole = examples.each_way

    def lettered(target: Any, source: str) -> Any:
        return [
            way._replace(form=dataclasses.replace(way.form, verbatim=False, header=target.corpora[source].header))
            for way in whole(target, source)
        ]

    patch.setattr(examples, "each_way", lettered)


def after_the_right_one(item: Item) -> Item:
    return Item(item.question, (item.answer + 1) % len(item.question.choices))


NOTHING = r"lower bound of the gain is -?\d|strength floor missed"
LORA = {"source": "forget", "method": "lora", "budgets": [5], "learning_rates": [5e-4, 2e-3, 8e-3], "rank": 16,
        "alpha": 32, "min_steps": 60, "batch": 8, "rotations": 4}  # fmt: skip
LONG = {"source": "forget", "method": "full", "budgets": [5], "learning_rates": [2e-3], "min_steps": 400, "batch": 16,
        "rotations": 4}  # fmt: skip
"""Long enough to learn 160 answers by heart."""

BUGS = (
    Bug("dead hook", "ablation", dead_hook, NOTHING),
    Bug("learning rate zero", "relearn", no_learning_rate, "strength floor missed"),
    Bug("frozen parameters", "relearn", frozen_parameters, "strength floor missed"),
    Bug("zero direction", "ablation", zero_direction, NOTHING),
    Bug("shuffled labels", "relearn", shuffled_labels, "lessons teach another letter than the key"),
    Bug("examples not shown", "few_shot", examples_not_shown, NOTHING),
    Bug("adapter detached", "relearn", adapter_detached, "strength floor missed", LORA),
    Bug("rounding that rounds nothing", "quantize", rounds_nothing, "floor missed|no answer changes", {}),
    Bug("wrong layer", "logit_lens", wrong_layer, NOTHING),
    Bug("verdict items leaked into training", "relearn", verdict_items_leaked, "on oracle, which never knew", LONG),
    Bug("answer key in the prompt", "few_shot", answer_in_the_prompt, "the verdict item .* is also in 'corpora"),
    Bug("seed ignored", "relearn", seed_ignored, "another seed gives the same"),
    Bug("mark handed over before training", "relearn", handed_over_before_training, "strength floor missed"),
    Bug("scope left open", "relearn", scope_left_open, "the model is not as it was"),
    Bug("control in the candidate's place", "relearn", control_for_candidate, NOTHING),
    Bug("vectors not added", "latent_prompt", vectors_not_added, NOTHING),
    Bug("a mask of nothing", "pruning", mask_of_nothing, NOTHING),
    Bug("share ignored", "interpolate", share_ignored, NOTHING),
    Bug("slips left out", "perturb", slips_left_out, NOTHING),
    Bug("dress left off", "reformat", dress_left_off, NOTHING),
    Bug("nothing added", "steer", nothing_added, NOTHING),
    Bug("wrong answers shown", "few_shot", wrong_answers_shown, "label: "),
    Bug("wrong answers taught", "relearn", wrong_answers_taught, "label: "),
    Bug("wrong answers taught to added vectors", "latent_prompt", wrong_answers_taught, "label: "),
    Bug("wrong answers taught to a soft prompt", "soft_prompt", wrong_answers_taught, "label: "),
    Bug("wrong answers searched for", "universal_prefix", wrong_answers_taught, "label: "),
    Bug("chosen by a wrong key", "relearn", wrong_key_on_dev, "dev: "),
    Bug("letters where words are asked", "relearn", letters_where_words_are_asked, "form: "),
    Bug("directions from letters where words are asked", "steer", letters_where_words_are_asked, "form: "),
    Bug("strength zero that is not zero", "relearn", sham_that_does_something, "at strength zero it changes"),
)


# --- the detectors ----------------------------------------------------------------------------------------------------


def suite_data() -> Any:
    """The self-test's, with fewer questions."""
    whole = gather(load_suite(organisms.SELF_TEST))
    tasks = {
        name: dataclasses.replace(task_data, items=task_data.items[:ITEMS]) for name, task_data in whole.tasks.items()
    }
    return dataclasses.replace(whole, tasks=tasks)


def gathered_digest(name: str) -> str:
    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.inputs.checkpoint.place import CheckpointRef

    return manifest_of(CheckpointRef(organisms.checkpoint(name))).digest


CHANGED: list[str] = []
"""What a trial left changed on its model: told by `in_this_process`."""


def in_this_process(job: Job, trials: Any, *_: Any) -> Iterator[Event]:
    """The executor without its processes, in which a planted bug would not be."""
    resident = attempt.Resident(job)
    for made, number in trials:
        loaded = resident.loaded_model(made)
        before = state_of(loaded.model, loaded.tokenizer)
        yield Event(made, None)  # it begins
        yield from resident.attempt(made, number)
        if left := list(changes(before, state_of(loaded.model, loaded.tokenizer))):
            CHANGED.append(f"the model is not as it was: {'; '.join(left)}")
            resident.forget()


def faults_of(attack: str, config: dict[str, Any] | None, patch: Patch) -> list[str]:
    """Everything that is found out about an attack as it now is: self-test, restoration, seed."""
    CHANGED.clear()
    if attack in bench.BENCHES["llama"].untested:
        return _contract(attack, config or {})
    tried = bench.by_name([attack], quick=True)[0]
    if config is not None:
        tried = tried._replace(config=attacks.as_json(attacks.configure(attacks.load(attack), config)))
    patch.setattr(self_test, "data", suite_data)
    if local.execute is EXECUTE:
        patch.setattr(local, "execute", in_this_process)
    try:
        (told,) = self_test.run([tried], AT)
    except PlanError as error:
        return [str(error)]
    unlawful = _unlawful(tried.config) if attack == "relearn" else []
    return [*map(sentence, told.faults), *CHANGED, *unlawful, *_of_forms(attack)]


def _of_forms(attack: str) -> list[str]:
    """What the laws of forms and labels find, on their own bench: in letters and in words."""
    loaded_models = form_rules.small_model(0), form_rules.small_model(1)
    with tempfile.TemporaryDirectory() as folder:
        benches = [form_rules.bench(Path(folder), task) for task in ("letters", "cloze")]
        return [words for each in benches for words in form_rules.faults(attack, each, *loaded_models)]


EXECUTE = local.execute


def _target(name: str) -> Any:
    from robustness_gate.engine.load import load

    return trial.target_of(suite_data(), load(organisms.checkpoint(name), dtype="float32", device="cpu"), None)


def _unlawful(settings: dict[str, Any]) -> list[str]:
    """Whether the seed decides nothing, at the smallest training there is, or what is taught is not the key."""
    module = attacks.load("relearn")
    short = {**settings, "min_steps": 2, "learning_rates": [1e-3], "budgets": [2]}
    told = []
    for seed in (1, 2):
        with contextlib.closing(
            module.attack(_target("rmu"), attacks.configure(module, short), seed)
        ) as attacked_models:
            told.append(dict(next(attacked_models).signals))
    found = ["another seed gives the same"] if told[0] == told[1] else []
    target, config = _target("rmu"), attacks.configure(module, short)
    wrong = mistaught(target, target.corpora[config.source], config)
    return [*found, f"{wrong} lessons teach another letter than the key"] if wrong else found


def _contract(attack: str, config: dict[str, Any]) -> list[str]:
    """For an attack without an organism: does it change anything, and clear its floors?"""
    module, target, found = attacks.load(attack), _target("rmu"), []
    task_data = suite_data().tasks["forget"]
    questions = [item.question for item in task_data.items[:40]]
    plain = target.lm.loglikelihoods(questions, task_data.form)
    with contextlib.closing(module.attack(target, attacks.configure(module, config), 1)) as attacked_models:
        for attacked in attacked_models:
            if torch.equal(plain, attacked.model.loglikelihoods(questions, task_data.form)):
                found.append("no answer changes")
            missed = [f.description for f in module.FLOORS if not any(b.holds(attacked.signals) for b in f.any_of)]
            found += [f"floor missed: {words}" for words in missed]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: Patch) -> None:
    import re

    bug.plant(monkeypatch)
    found = faults_of(bug.attack, bug.config, monkeypatch)
    assert any(re.search(bug.found, words) for words in found), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "config"),
    sorted({(bug.attack, repr(bug.config)): (bug.attack, bug.config) for bug in BUGS}.values(), key=str),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_without_a_bug_nothing_is_found(attack: str, config: dict[str, Any] | None, monkeypatch: Patch) -> None:
    assert faults_of(attack, config, monkeypatch) == []


def test_there_are_bugs_of_every_kind_that_guards_are_for() -> None:
    assert len(BUGS) >= 15
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert {bug.attack for bug in BUGS} <= set(attacks.names())
