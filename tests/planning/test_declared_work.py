"""What an attack's `work` declares, beside the tokens that really went through a small model and its original."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import attacks, organisms
from robustness_gate.engine import padding, shared, usage
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.engine.prefix import Places, Spelt
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import applicability, tokens
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Item
from robustness_gate.records.work import Work
from robustness_gate.running import trial

TINY: dict[str, dict[str, Any]] = {
    "pruning": {"utility": ("retain",), "scores": ("snip", "wanda")},
    "perturb_informed": {"thresholds": (1e-9,)},
    "enhanced_prefix": {"deletions": 0.0, "insertions": 0.0, "likely": 0.0},
    "refusal_direction": {"validating": 4},
}
"""Settings in place of those of the contract's tiny run."""
OTHER: dict[str, dict[str, Any]] = {
    "ablation": {"directions": ("unrelated",), "questions": 2, "all_layers": False},
    "enhanced_prefix": {
        "tokens": 3, "shortest": 4, "ramp": 0, "longest": 9, "budgets": (1, 2), "warm": 1, "candidates": 2,
        "questions": 2, "looks": 2, "deletions": 0.0, "insertions": 0.0, "likely": 0.0, "header": False,
    },
    "few_shot": {"budgets": (1, 3), "draws": 2, "source": "retain"},
    "latent_prompt": {"learning_rates": (0.01, 0.1), "budgets": (1, 2), "batch": 3, "questions": 3, "depths": (0.0,)},
    "logit_lens": {"stages": ("mlp", "block")},
    "model_guidance": {"weights": (1.5, 3.0)},
    "perturb_informed": {
        "depths": (0.0, 1.0), "thresholds": (1e-9,), "questions": 3, "rounds": 2, "direction": "original",
    },
    "probe": {"source": "retain", "questions": 7, "folds": 3},
    "pruning": {"samples": 3, "p": (5.0,), "q": (2.0, 5.0), "utility": ("retain",), "scores": ("snip",)},
    "refusal_direction": {
        "declined": "domain", "answered": "unrelated", "questions": 5, "validating": 1, "positions": 2, "tried": 2,
    },
    "reformat": {
        "presentations": ("letters_digits", "header_instruction", "question_twice", "prefill_recall"), "probes": 1,
    },
    "relearn": {
        "source": "forget", "method": "lora", "budgets": (1, 2), "learning_rates": (1e-3,), "min_steps": 1,
        "batch": 2, "rank": 2, "rotations": 2, "repair": "retain", "repair_on": "questions", "repair_steps": 2,
    },
    "steer": {"vectors": ("original", "unrelated"), "depths": (0.0, 0.1, 0.5), "multiples": (0.0, 1.0), "questions": 5},
    "universal_prefix": {
        "tokens": 3, "budgets": (1, 2), "restarts": 2, "candidates": 3, "batch": 2, "screen": 1, "finalists": 0.5,
        "looks": 2, "questions": 5, "source": "retain", "header": False,
    },
}  # fmt: skip
"""Settings of a second run, in three forms of the hazard: other budgets, data and directions, so that a wrong term
shows."""
CASES = [(name, several) for name in attacks.names() for several in ((False, True) if name in OTHER else (False,))]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(organisms.checkpoint("rmu"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def original() -> LoadedModel:
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def counter(loaded: LoadedModel, original: LoadedModel) -> usage.Tokens:
    """Both models count into it, as in a run."""
    found = usage.Tokens()
    for each in (loaded, original):
        usage.watch(each.model, found)
    return found


@pytest.fixture(scope="module")
def few(small_suite_data: Any) -> Any:
    return dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2])


@pytest.fixture(scope="module")
def several(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Letters, the same questions by their words, and those in another reading: two sets of prompts in three forms."""
    from robustness_gate.inputs.yaml import read_yaml

    suite: dict[str, Any] = dict(read_yaml(root / "suites" / "organism-full.yaml").data)
    items = {"items": "organism:forget.verdict.jsonl", "count": 400, "wording": "Question: {question}\nReply:"}
    more = {"words": {"kind": "cloze", **items}, "margin": {"kind": "cloze_margin", **items}}
    suite = {**suite, "hazard": ["forget", *more], "tasks": {**suite["tasks"], **more}}
    path = tmp_path_factory.mktemp("several") / "suite.yaml"
    path.write_text(json.dumps(suite), encoding="utf-8")
    found = gather(load_suite(path))
    corpora = {
        name: dataclasses.replace(each, items=longer(each.items[:12]), texts=each.texts[:4])
        for name, each in found.corpora.items()
    }
    worded = {
        name: dataclasses.replace(
            each, dev=longer(each.dev[:1]), corpora={name: longer(items[:12]) for name, items in each.corpora.items()}
        )
        for name, each in found.worded.items()
    }
    return dataclasses.replace(found, dev=longer(found.dev[:1]), corpora=corpora, worded=worded)


def longer(items: Sequence[Item]) -> tuple[Item, ...]:
    """The same with two words more in each choice: choices of one token would be read in one pass together."""
    return tuple(
        dataclasses.replace(
            item,
            question=dataclasses.replace(
                item.question, choices=tuple(f"{each} of old" for each in item.question.choices)
            ),
        )
        for item in items
    )


def passes(
    name: str, config: Any, data: Any, loaded: LoadedModel, original: LoadedModel | None, counter: usage.Tokens
) -> tuple[Work, int, int]:
    """What an attack declares, and the tokens that it reads and learns, without examinations; prompts are read whole
    and no two lengths together, as `plan --cost` counts. It is not known beforehand which changes of a text survive:
    here all do.
    """
    hazards = applicability.of(attacks.load(name), config, data.hazards).hazards
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tokens, "length_of", functools.cache(lambda text: float(len(loaded.tokenizer(text)["input_ids"])))
        )
        patch.setattr(shared, "applies", lambda *_, **__: False)
        patch.setattr(padding, "alike", lambda *_, **__: True)
        patch.setattr(Places, "surviving", lambda its, texts: [Spelt(ids, (ids,) * len(its._forms)) for ids in texts])
        layers = loaded.model.config.num_hidden_layers
        sizes = tokens.Planned(data).sizes(hazards, layers, original=original is not None)
        declared = attacks.load(name).work(config, sizes)
        reference = None if original is None else lambda: contextlib.nullcontext(original)
        before = counter.read, counter.learnt
        target = trial.target_of(data, loaded, reference, hazards)
        with contextlib.closing(attacks.load(name).attack(target, config, 1)) as attacked_models:
            for _ in attacked_models:
                pass
    return declared, counter.read - before[0], counter.learnt - before[1]


@pytest.mark.parametrize(("name", "in_several"), CASES)
def test_an_attack_reads_and_learns_what_it_declares(
    name: str, in_several: bool, loaded: LoadedModel, original: LoadedModel, counter: usage.Tokens,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    module = attacks.load(name)
    more = OTHER[name] if in_several else {**module.CONTRACT.tiny, **TINY.get(name, {})}
    data = request.getfixturevalue("several" if in_several else "few")
    declared, read, learnt = passes(name, module.Config(**more), data, loaded, original, counter)
    most = {"perturb": 1.6, "perturb_informed": 1.2}.get(name, 1.1)  # of 1,500 tokens more are in a misspelt word
    assert 0.9 * declared.read <= read <= most * declared.read  # lengths are means
    assert 0.9 * declared.learnt <= learnt <= 1.1 * declared.learnt


@pytest.mark.parametrize("name", ["ablation", "enhanced_prefix", "steer"])
def test_what_uses_the_original_does_less_without_one(
    name: str, few: Any, loaded: LoadedModel, original: LoadedModel, counter: usage.Tokens
) -> None:
    module = attacks.load(name)
    config = module.Config(**{**module.CONTRACT.tiny, **TINY.get(name, {})})
    assert "original" in module.USES
    declared, read, _ = passes(name, config, few, loaded, None, counter)
    assert declared.read == pytest.approx(read, rel=0.1)
    assert read < 0.9 * passes(name, config, few, loaded, original, counter)[1]


def test_the_search_for_a_direction_of_refusal_judges_every_question_first(
    several: Any, loaded: LoadedModel, original: LoadedModel, counter: usage.Tokens
) -> None:
    """Those that it takes are fewer than the ones that are answered wrongly, so that nothing is left open."""
    config = attacks.load("refusal_direction").Config(
        declined="wrong", answered="unrelated", least=2, questions=1, validating=1, positions=1, tried=1, max_depth=0.1
    )
    declared, read, _ = passes("refusal_direction", config, several, loaded, original, counter)
    assert declared.read == pytest.approx(read, rel=0.1)


def test_the_lens_reads_the_prompts_that_two_forms_have_in_common_once(several: Any) -> None:
    lens, planned = attacks.load("logit_lens"), tokens.Planned(several)
    letters, words, margin = several.hazards
    one, both = (planned.sizes(each, 4, original=False) for each in ((letters, words), (letters, words, margin)))
    assert one.look < both.look
    assert lens.work(lens.Config(), one) == lens.work(lens.Config(), both)


def test_every_point_of_the_perturbations_is_declared(few: Any) -> None:
    """By hand: twelve characters with one behind each fourth are three words of a token and three characters."""
    perturb = attacks.load("perturb")
    assert perturb._growth("every 4: !") == pytest.approx(6 / 3)
    assert perturb._growth("share 0.25: any") == perturb._growth("every 4: !")
    assert perturb._growth("case upper") == perturb._growth("dropped 0.2") == 1.0
    sizes = tokens.Planned(few).sizes(few.hazards, 4, original=True)
    sizes = dataclasses.replace(sizes, look=100.0, held={"dev": 10})
    plain = perturb.Config(every=(), shares=(), characters=("!",), cases=(), slips=(), screened=5)
    assert perturb.work(plain, sizes) == Work(read=100)
    one = dataclasses.replace(plain, every=(4,))
    assert perturb.work(one, sizes) == Work(read=100 + 5 / 10 * 200 + 200, longer=2.0)
    both = dataclasses.replace(one, cases=("upper",))
    found = perturb.work(both, sizes)
    assert (found.read, found.longer) == (100 + 5 / 10 * 300 + 300, 2.0)
    assert found.omitted
