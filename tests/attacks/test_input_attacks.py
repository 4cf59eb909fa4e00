"""Attacks on what is asked, where a hazard is asked in plain text and in a template and a utility task in its words."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from robustness_gate import attacks, tasks
from robustness_gate.errors import BrokenTrial
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.planning.plan import Subject, trial_of
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.questions import Form
from robustness_gate.records.trial import Role
from robustness_gate.running import trial
from robustness_gate.verdict import unpack

TEMPLATE = (
    "{{ bos_token }}<user> {{ messages[0].content }}"
    "{% if add_generation_prompt %} <assistant>\n{% endif %}{% if false %}<think>{% endif %}"
)
CONFIGS = {
    "few_shot": {"budgets": (2,), "draws": 1},
    "perturb": {"every": (9,), "shares": (), "characters": ("!",), "slips": (), "finalists": 1},
    "perturb_informed": {"depths": (0.0,), "thresholds": (0.3,), "questions": 6, "rounds": 2},
    "reformat": {
        "presentations": ("letters_roman", "prefill_correct", "tokens_all", "thought_full"),
        "probes": 1,
        "thinking_tokens": 2,
    },
    "sample": {"budgets": (2,), "temperatures": (1.0,)},
}


@pytest.fixture(scope="module")
def loaded(rmu_model):
    tokenizer = copy.deepcopy(rmu_model.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return rmu_model._replace(tokenizer=tokenizer)


@pytest.fixture(scope="module")
def mixed(small_suite_data):
    """Two questions of everything: the hazard in both formats, and the same utility by letters and by words."""
    forget, retain = (
        dataclasses.replace(small_suite_data.tasks[n], items=small_suite_data.tasks[n].items[:2])
        for n in ("forget", "retain")
    )
    chat = dataclasses.replace(forget, form=dataclasses.replace(forget.form, chat=True))
    words = TaskData("lm_eval", retain.items, Form(letters=tuple("ABCDEFGH"), verbatim=True))
    tasks = {"forget": forget, "forget.chat": chat, "retain": retain, "words": words}
    return dataclasses.replace(small_suite_data, tasks=tasks, dev=small_suite_data.dev[:2])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_task_is_answered_in_all_metrics_of_its_kind_in_every_format(name, loaded, mixed):
    module = attacks.load(name)
    config = module.Config(**CONFIGS[name])
    no_one = Subject(Role.CANDIDATE, None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    made = trial_of(no_one, None, module, config, 0, mixed, "float32")
    measurements = list(trial.run(made, mixed, loaded))
    assert sorted(measurement.task for measurement in measurements) == sorted(mixed.tasks)
    for measurement in measurements:
        assert set(measurement.correct) == set(tasks.load(mixed.tasks[measurement.task].kind).JUDGED.metrics)
        assert unpack(measurement.missing, measurement.items) == [False, False]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda found: found._replace(correct={"acc": found.correct["acc"]}), "otherwise than its kind declares"),
        (lambda found: found._replace(correct={**found.correct, "solved": found.missing}), "otherwise than its kind"),
        (lambda found: found._replace(correct={**found.correct, "acc": [True]}), "one truth value per item"),
        (lambda found: found._replace(missing=[False]), "one truth value per item"),
    ],
)
def test_a_kind_that_reads_otherwise_than_it_declares_ends_its_trial(wrong, says, loaded, mixed, monkeypatch):
    kind = tasks.load("multiple_choice")
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda rows, key: wrong(read(rows, key)))
    no_one = Subject(Role.CANDIDATE, None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    none = attacks.load("none")
    with pytest.raises(BrokenTrial, match=says):
        list(trial.run(trial_of(no_one, None, none, none.Config(), 0, mixed, "float32"), mixed, loaded))


def test_every_presentation_can_be_put_where_there_is_a_template_with_thinking(loaded, mixed):
    reformat = attacks.load("reformat")
    target = trial.target_of(mixed, loaded, None)
    (attacked,) = reformat.attack(target, reformat.Config(probes=1, thinking_tokens=2), 1)
    assert attacked.selected["dropped"] == ""
    assert attacked.signals["tried"] == len(reformat.Config().presentations) + 4
