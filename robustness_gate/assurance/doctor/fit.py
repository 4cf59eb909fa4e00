"""Whether each attack applies to this model: each is tried at strength zero, which changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from robustness_gate import attacks, organisms, tasks
from robustness_gate.assurance.doctor.asking import read_by
from robustness_gate.assurance.doctor.findings import Check, Code, State, first_line, found
from robustness_gate.assurance.doctor.loading import Original
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs import datasets
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import applicability, plan, specimens
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.attack import Corpus, Hazard, Target
from robustness_gate.records.encode import encode
from robustness_gate.records.questions import Form
from robustness_gate.records.suite import Suite

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel

FEW = 4
"""Number of questions and texts of each kind on which attacks are tried."""
ENOUGH = 0.9
"""Share of the selected weights that an attack on weights must change to establish compliance, by its own floor.
"""


def shams(
    loaded: LoadedModel,
    suite: Loaded[Suite] | None,
    original: Original,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Every attack at strength zero on this model."""
    hazards, corpora = _hazards(suite)
    fails: State = "PROBLEM" if suite is not None else "note"  # without a suite the device was not yet selected
    for name, configs in wanted(suite).items():
        step(f"trying {name} at strength zero")
        module = attacks.load(name)
        sham = plan.at_strength_zero(module, configs[0])
        fitting = applicability.of(module, sham, hazards)
        if not fitting.hazards:
            yield found("attacks", "note", name, Code.NO_HAZARD_FORM, why=fitting.why_not)
            continue
        original.make_room()
        target = _target(loaded, fitting.hazards, corpora, original.opened)
        try:
            with contextlib.closing(module.attack(target, sham, 1)) as attacked_models:
                next(attacked_models)
        except NotApplicable as error:
            args = {"message": error.message, "remedy": error.remedy}
            yield found("attacks", "note", name, Code.NOT_APPLICABLE, **args)
        except Exception as error:  # noqa: BLE001 - a trial would fail with the same error, of any type
            yield found("attacks", fails, name, Code.WOULD_FAIL, message=first_line(error))
        else:
            yield fits(name, module, configs, loaded.model, original.stored is not None)
            if suite is not None:
                yield from _prompts(loaded, suite, name, configs)


def _target(
    loaded: LoadedModel, hazards: tuple[Hazard, ...], corpora: dict[str, Corpus], original: Callable[[], Any]
) -> Target:
    from robustness_gate.engine import score

    return Target(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        lm=score.ModelLM(loaded.model, loaded.tokenizer),
        hazards=hazards,
        corpora=corpora,
        reference=original,
    )


def wanted(suite: Loaded[Suite] | None) -> dict[str, list[Any]]:
    """The attacks by name with their configs, in the suite's order."""
    if suite is None:
        return {name: [attacks.load(name).Config()] for name in attacks.names()}
    found: dict[str, list[Any]] = {}
    for entry in suite.record.attacks:
        config = attacks.configure(attacks.load(entry.attack), entry.config)
        found.setdefault(entry.attack, []).append(config)
    return found


def _hazards(suite: Loaded[Suite] | None) -> tuple[tuple[Hazard, ...], dict[str, Corpus]]:
    """A few questions in every form of the suite's hazard; without a suite, of the invented world."""
    if suite is not None:
        suite_data = gather(suite)
        few = {
            name: dataclasses.replace(corpus, items=corpus.items[:FEW], texts=corpus.texts[:FEW])
            for name, corpus in suite_data.corpora.items()
        }
        return tuple(
            dataclasses.replace(
                each.first(FEW), questions={name: items[:FEW] for name, items in each.questions.items()}
            )
            for each in suite_data.hazards
        ), few
    files = {"forget": "forget.relearn", "retain": "retain.relearn", "unrelated": "unrelated"}
    corpora = {
        name: Corpus(
            items=load_items(organisms.world(file))[:FEW],
            texts=datasets.read_texts(organisms.world(f"{name}.texts"))[:FEW],
        )
        for name, file in files.items()
    }
    items = {name: corpus.items for name, corpus in corpora.items()}
    dev = load_items(organisms.world("forget.dev"))[:FEW]
    return (Hazard("hazard", "multiple_choice", Form(), dev, items, tasks.load("multiple_choice")),), corpora


def _prompts(loaded: LoadedModel, suite: Loaded[Suite], name: str, configs: list[Any]) -> Iterator[Check]:
    """The data for the attack in this model's tokens, or why it does not apply in some form of the hazard."""
    seen: set[tuple[str, str]] = set()
    suite_data = gather(suite)
    for config in configs:
        for each in specimens.of_attack(name, config, suite_data, read_by(loaded)):
            if (each.description, each.text) not in seen:
                seen.add((each.description, each.text))
                state: State = "ok" if each.in_form else "note"
                code = Code.MADE_ON if each.in_form else Code.NOT_IN_FORM
                yield found("attacks", state, each.of, code, what=each.description, text=each.text)


def fits(name: str, module: ModuleType, configs: list[Any], model: Any, has_original: bool) -> Check:
    """The finding that it applies (in part, without an original that a config names), with the share of weights it
    reaches.
    """
    naming = any('"original"' in encode(attacks.as_json(config)).decode() for config in configs)
    missing = "original" if naming and not has_original else ""
    if hasattr(module, "reach"):
        return _reaching(name, missing, module, configs, model)
    if missing:
        return found("attacks", "note", name, Code.APPLIES_WITHOUT_ORIGINAL)
    return found("attacks", "ok", name, Code.APPLIES)


def _reaching(name: str, missing: str, module: ModuleType, configs: list[Any], model: Any) -> Check:
    """The share of the blocks' weights that each config of an attack on weights would change."""
    from robustness_gate.engine import matrices

    sizes, shares, little = matrices.sizes(model), set[int](), False
    for config in configs:
        try:
            share = matrices.signs(sizes, module.reach(model, config))["share_touched"]
        except NotApplicable as error:
            args = {"message": error.message, "remedy": error.remedy}
            return found("attacks", "note", name, Code.SETTING_NOT_APPLICABLE, **args)
        shares.add(int(100 * share))  # rounded down, so that 99.6 % is not shown as all
        little = little or (share < ENOUGH and not getattr(config, "layers", ()))
    reached = " and ".join(f"{each} %" for each in sorted(shares))
    code = Code.REACHES_PART if little else Code.REACHES_ALL
    state: State = "note" if little or missing else "ok"
    return found("attacks", state, name, code, missing=missing, shares=reached)
