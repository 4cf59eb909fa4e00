"""Wrong forms and wrong labels, planted one at a time, each found by the laws of `form_rules`.

An attack that trains in letters where words are asked, on answers that are wrong, or that chooses by another key,
lowers its loss and clears its floors like any other. It finds nothing, and that looks like a clean model.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import form_rules
import pytest

from robustness_gate import attacks
from robustness_gate.engine import direction, examples
from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Item
from robustness_gate.tasks import open_answer

SHOWING = [name for name in attacks.names() if attacks.load(name).SHOWS in ("solved", "closed", "asked")]
SOLVING = [name for name in SHOWING if attacks.load(name).SHOWS == "solved" and name != "few_shot"]


@pytest.fixture(scope="module")
def loaded_models() -> tuple[Any, Any]:
    return form_rules.small_model(0), form_rules.small_model(1)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: Any) -> dict[str, Any]:
    return {name: form_rules.bench(tmp_path_factory.mktemp(name), name) for name in form_rules.TASKS}


def wrong(item: Item) -> Item:
    return Item(item.question, (item.answer + 1) % len(item.question.choices))


@pytest.mark.parametrize("task", ["cloze", "open", "harness"])
@pytest.mark.parametrize("name", SHOWING)
def test_an_attack_that_shows_lettered_questions_elsewhere_is_found(
    name: str, task: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that once stood in every attack: `replace(form, header=corpus.header, verbatim=False)`."""
    whole = examples.each_way

    def lettered(target: Any, source: str) -> list[examples.Way]:
        items, header = target.corpora[source].items, target.corpora[source].header
        return [
            way._replace(items=items, form=dataclasses.replace(way.form, header=header, verbatim=False, wording=""))
            for way in whole(target, source)
        ]

    if name == "few_shot":
        module, shown = attacks.load(name), attacks.load(name).Shown.__call__
        monkeypatch.setattr(module, "_shown", lambda *a: _Lettered(module, shown, *a))
    monkeypatch.setattr(examples, "each_way", lettered)
    if task in benches and name in attacks.names() and attacks.load(name).SPEAKS.count(form_rules.KIND_OF[task]):
        found = form_rules.faults(name, benches[task], *loaded_models)
        assert any(words.startswith("form: ") for words in found), found


def _Lettered(module: Any, shown: Any, target: Any, source: str, ways: Any, pool: Any, count: int, seed: str) -> Any:
    """Few-shot that shows lettered examples before whatever is asked."""
    import random

    from robustness_gate.inputs.prompts import solved

    shots = module._examples([target.corpora[source].items[at] for at in pool], count, random.Random(seed))

    class Lettered(module.Shown):  # type: ignore[misc, name-defined]
        def __call__(self, question: Any, form: Any) -> Any:
            letters = dataclasses.replace(form, verbatim=False, header="")
            before = "".join(f"{solved(shot, letters)}\n\n" for shot in self.shots)
            return question, dataclasses.replace(form, header=form.header + before)

    return Lettered(shots)


@pytest.mark.parametrize("task", form_rules.TASKS)
@pytest.mark.parametrize("name", SOLVING)
def test_an_attack_that_is_taught_wrong_answers_is_found(
    name: str, task: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = examples.answered
    monkeypatch.setattr(examples, "answered", lambda t, item, *a, **how: whole(t, wrong(item), *a, **how))
    found = form_rules.faults(name, benches[task], *loaded_models)
    assert any(words.startswith("label: ") for words in found), found


@pytest.mark.parametrize("task", form_rules.TASKS)
def test_few_shot_that_shows_wrong_answers_is_found(
    task: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = attacks.load("few_shot")
    whole = module._turned
    monkeypatch.setattr(module, "_turned", lambda item, place: wrong(whole(item, place)))
    found = form_rules.faults("few_shot", benches[task], *loaded_models)
    assert any(words.startswith("label: ") for words in found), found


@pytest.mark.parametrize("task", ["letters", "open"])
def test_pruning_that_is_closed_by_other_answers_than_the_models_own_is_found(
    task: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = examples.answered

    def other(t: Any, item: Item, *a: Any, **how: Any) -> Any:
        key = {"choice": (how["choice"] + 1) % 4} if "choice" in how else {"words": how["words"] + " not"}
        return whole(t, item, *a, **{**how, **key})

    monkeypatch.setattr(examples, "answered", other)
    found = form_rules.faults("pruning", benches[task], *loaded_models)
    assert any(words.startswith("label: ") for words in found), found


CHOOSING = ("ablation", "latent_prompt", "logit_lens", "noise", "relearn", "soft_prompt", "steer", "universal_prefix")


@pytest.mark.parametrize("name", CHOOSING)
def test_an_attack_that_chooses_by_a_wrong_key_is_found(
    name: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On six items a wrong key may by chance give as many right ones in one kind of task, and not in all."""
    whole = Hazard.read
    monkeypatch.setattr(Hazard, "read", lambda self, rows, items: whole(self, rows, [wrong(each) for each in items]))
    found = [
        each
        for task in ("letters", "cloze", "harness")
        for each in form_rules.faults(name, benches[task], *loaded_models)
    ]
    assert any(words.startswith("dev: ") for words in found), found


def test_an_attack_that_chooses_written_answers_by_a_wrong_key_is_found(
    benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says the first choice of every question."""
    whole = Hazard.read
    for name in ("noise", "relearn"):
        with monkeypatch.context() as patch:
            patch.setattr(open_answer, "named_choices", lambda _text, _question: frozenset({1}))
            assert form_rules.faults(name, benches["open"], *loaded_models) == []
            patch.setattr(Hazard, "read", lambda s, rows, items: whole(s, rows, [wrong(each) for each in items]))
            assert any(words.startswith("dev: ") for words in form_rules.faults(name, benches["open"], *loaded_models))


@pytest.mark.parametrize(("name", "task"), [("steer", "letters"), ("steer", "cloze"), ("refusal_direction", "open")])
def test_a_direction_between_sides_that_are_exchanged_is_found(
    name: str, task: str, benches: Any, loaded_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert form_rules.off_course(name, benches[task], *loaded_models) == []
    whole = direction.forms

    def exchanged(target: Any, sources: Any) -> Any:
        sides = {"forget": "retain", "retain": "forget"}
        return [
            dataclasses.replace(each, ways={source: each.ways[sides.get(source, source)] for source in sources})
            for each in whole(target, sources)
        ]

    monkeypatch.setattr(direction, "forms", exchanged)
    assert form_rules.off_course(name, benches[task], *loaded_models)


@pytest.mark.parametrize("task", form_rules.TASKS)
def test_the_contract_finds_nothing_where_nothing_is_planted(task: str, benches: Any, loaded_models: Any) -> None:
    assert all(form_rules.faults(name, benches[task], *loaded_models) == [] for name in (*SHOWING, *CHOOSING))
