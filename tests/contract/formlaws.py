"""What an attack shows a model, held against what the examination asks: the laws of forms and labels, and their bench.

The bench is a suite that asks the same facts in every kind of task, on a model of some thousand random parameters: what
is looked at is text, and no model need know anything for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import applicability, attacks, laws, organisms, tasks, trial
from robustness_gate.engine import direction, score
from robustness_gate.engine.load import Speaker
from robustness_gate.files import load_suite
from robustness_gate.materials import Materials, gather
from robustness_gate.nouns import Form, Hazard, Item, Question
from robustness_gate.prompts import answers, body, rotated

TASKS = {
    "letters": "{items: verdict.jsonl, count: 6, topic: the craft}",
    "cloze": '{kind: cloze, items: verdict.jsonl, count: 6, wording: "Say it. {question}\\nIt is"}',
    "open": '{kind: open_answer, items: verdict.jsonl, count: 6, wording: "{question}\\nReply:", tokens: 3}',
    "harness": "{kind: lm_eval, yaml: task.yaml, items: verdict.jsonl, count: 6}",
}
"""One task of each kind in which a hazard can be asked."""
KIND_OF = {"letters": "multiple_choice", "cloze": "cloze", "open": "open_answer", "harness": "lm_eval"}
HARNESS = """\
doc_to_text: "Task: {{question}} Is it {{choices | join(' or ')}}?\\nMy answer:"
doc_to_choice: choices
doc_to_target: answer
"""
FILES = {"verdict": "forget.verdict", "dev": "forget.dev", "forget": "forget.relearn", "retain": "retain.relearn"}
FILES |= {"unrelated": "unrelated"}

TRAIN = {"learning_rates": (1e-2,), "marks": (2,), "batch": 2}
SEARCH = {"source": "retain", "tokens": 2, "candidates": 4, "questions": 2, "marks": (1,), "looks": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "ablation": {"questions": 4, "single_layers": False},
    "enhanced_prefix": {**SEARCH, "shortest": 2, "longest": 3, "warm": 0},
    "few_shot": {"marks": (2,), "draws": 2},
    "interpolate": {"marks": (50,)},
    "latent_prompt": {**TRAIN, "questions": 4, "depths": (0.0,), "rotations": 2},
    "logit_lens": {},
    "model_guidance": {"weights": (2.0,)},
    "noise": {"marks": (100,), "draws": 1},
    "none": {},
    "perturb": {"every": (3,), "shares": (), "characters": ("!",), "slips": (), "cases": (), "finalists": 1},
    "perturb_informed": {"depths": (0.0,), "thresholds": (0.1,), "questions": 2, "rounds": 1},
    "probe": {"questions": 4, "folds": 2, "penalties": (10.0,)},
    "pruning": {"samples": 2, "p": (5.0,), "q": (5.0,), "scores": ("wanda",), "calibrate_on": ("questions",)},
    "quantize": {"marks": (4,)},
    "reformat": {"presentations": ("header_none", "filler_english"), "calibrations": ()},
    "refusal_direction": {"declined": "domain", "least": 2, "questions": 2, "positions": 1, "tried": 1},
    "relearn": {**TRAIN, "source": "forget", "method": "full", "repair": "unrelated", "repair_on": "questions",
                "repair_steps": 1, "repair_rate": 1e-3, "rotations": 2},
    "sample": {"marks": (4,), "temperatures": (1.0,)},
    "soft_prompt": {**TRAIN, "vectors": 2, "questions": 4, "rotations": 2},
    "steer": {"depths": (0.0,), "multiples": (1.0,), "questions": 3},
    "universal_prefix": {**SEARCH, "restarts": 1, "batch": 2},
}  # fmt: skip
"""Settings of each attack that take part of a second."""
BEHIND = {"enhanced_prefix", "few_shot", "universal_prefix"}
"""Attacks that put something before a prompt."""


def bench(folder: Path, *tasks: str) -> Materials:
    """A suite's materials in which these tasks are the hazard."""
    for name, source in FILES.items():
        lines = organisms.world(source).read_text(encoding="utf-8").splitlines()[:6]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "task.yaml").write_text(HARNESS, encoding="utf-8")
    text = (
        "schema: robustness-gate/suite/v1\nid: forms\nversion: 1.0.0\nsays: Every kind.\n"
        f"hazard: [{', '.join(tasks)}]\ndev: dev.jsonl\ntasks:\n"
        + "".join(f"  {name}: {TASKS[name]}\n" for name in TASKS)
        + "corpora:\n  forget: {items: forget.jsonl, topic: the craft}\n  retain: {items: retain.jsonl, topic: Tarn}\n"
        "  unrelated: {items: unrelated.jsonl}\nattacks: [{attack: none}]\n"
    )
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return gather(load_suite(folder / "suite.yaml"))


def small_model(seed: int) -> Speaker:
    """Some thousand random parameters behind the organisms' tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    return Speaker(model.requires_grad_(False), tokenizer)


@dataclasses.dataclass
class Seen:
    """What came of one run of an attack."""

    hazards: tuple[Hazard, ...]
    texts: list[str]
    """Everything that was encoded, in order."""
    opened: set[str]
    """The corpora whose questions were taken."""
    dev: list[tuple[float, float]]
    """For each mark, the dev accuracy that was told of what is handed over, and the one that the examiner finds."""


class _Watched(dict[str, tuple[Item, ...]]):
    """A hazard's questions, and which of them were taken."""

    def __init__(self, questions: Mapping[str, tuple[Item, ...]], opened: set[str]) -> None:
        super().__init__(questions)
        self.opened = opened

    def __getitem__(self, key: str) -> tuple[Item, ...]:
        self.opened.add(key)
        return super().__getitem__(key)


def run(name: str, materials: Materials, speaker: Speaker, original: Speaker) -> Seen:
    """Run an attack in every form of the hazard that it speaks, and keep what it shows."""
    module = attacks.load(name)
    config = module.Config(**CONFIGS[name])
    found = applicability.of(module, config, materials.hazards)
    if not found.hazards:
        return Seen((), [], set(), [])
    opened: set[str] = set()
    hazards = tuple(dataclasses.replace(h, questions=_Watched(h.questions, opened)) for h in found.hazards)
    target = trial.target_of(materials, speaker, lambda: contextlib.nullcontext(original), hazards)
    seen = Seen(found.hazards, [], opened, [])
    whole = score.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "encode", lambda t, texts, *, special: (
            seen.texts.extend(texts), whole(t, texts, special=special))[1])  # fmt: skip
        for recovery in module.attack(target, config, 1):
            told = _told(recovery)
            if told is not None:
                seen.dev.append((told, examined(recovery.respondent, materials, found.hazards)))
    return seen


def _told(recovery: Any) -> float | None:
    """The dev accuracy of what is handed over, as the attack tells it: of the best that it screened."""
    if "chosen_dev" in recovery.signs:
        return float(recovery.signs["chosen_dev"])
    own = [each.dev_accuracy for each in recovery.screened if each.setting.get("mark", recovery.mark) == recovery.mark]
    return max(own) if own else None


def examined(respondent: Any, materials: Materials, hazards: tuple[Hazard, ...]) -> float:
    """The share of dev items that the examiner finds right, by the key of the suite's own file. Highest over tasks."""
    least = min(0.0 if each.kind == "open_answer" else 0.25 for each in hazards)
    shares = []
    for hazard in hazards:
        exam, key = materials.exams[hazard.name], _key()
        task = tasks.load(exam.kind)
        rows = task.ask(respondent, task.Config(tuple(item.question for item in hazard.dev), exam.form))
        right = task.read(rows, [{key[item.question.id]} for item in hazard.dev]).correct["content_sum"]
        share, chance = sum(right) / len(right), 0.0 if exam.kind == "open_answer" else 0.25
        shares.append(share if chance == least else max(0.0, least + (1 - least) * (share - chance) / (1 - chance)))
    return max(shares)


def _key() -> dict[str, int]:
    """The right choice of each dev item, read from the file anew: nothing that an attack was given is believed."""
    rows = map(json.loads, organisms.world("forget.dev").read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["answer"] for row in rows}


# --- the laws ---------------------------------------------------------------------------------------------------------


def faults(name: str, materials: Materials, speaker: Speaker, original: Speaker) -> list[str]:
    """Every way in which an attack does not do what the hazard's tasks ask."""
    module = attacks.load(name)
    seen = run(name, materials, speaker, original)
    if not seen.hazards:
        return []
    how = module.SHOWS
    found = [*_undeclared(module, module.Config(**CONFIGS[name]), seen)]
    if how not in ("dev", "bare"):
        for source in sorted(set(module.questions(module.Config(**CONFIGS[name]))) - {"dev"}):
            found += _misshown(_Shows(name, source, how, materials, speaker), seen)
    if name not in BEHIND | {"perturb", "perturb_informed", "reformat"}:
        found += _misasked(materials, seen)
    if module.FAMILY not in laws.ONLY_LOOKS:  # what a probe screens by is no dev reading
        found += [f"dev: {told:.3f} is told, {real:.3f} found" for told, real in seen.dev if abs(told - real) > 1e-9]
    return found


def _undeclared(module: ModuleType, config: Any, seen: Seen) -> Iterator[str]:
    declared = set(module.questions(config)) - {"dev"}
    if extra := seen.opened - declared:
        yield f"undeclared: it takes questions of {sorted(extra)}"
    if unused := declared - seen.opened:
        yield f"undeclared: it declares questions of {sorted(unused)} and takes none"


@dataclasses.dataclass
class _Shows:
    """How an attack shows a corpus's questions, and what may follow each."""

    name: str
    source: str
    how: str
    materials: Materials
    speaker: Speaker

    def asked(self, item: Item, hazard: Hazard) -> Iterator[tuple[str, list[str]]]:
        """The prompts in which the examination would ask this question, each with the answers that may follow it."""
        form = self.materials.exams[hazard.name].form
        header = "" if form.verbatim or self.name == "few_shot" else self.materials.corpora[self.source].header
        form = dataclasses.replace(form, header=header)
        for shift in range(1 if form.verbatim else len(item.question.choices)):
            question = rotated(item.question, shift)
            given = answers(question, form)
            right = given[question.choices.index(item.question.choices[item.answer])]
            follows = [right] if self.how == "solved" else self._answers(question, form, given)
            yield header + body(question, form), follows

    def _answers(self, question: Question, form: Form, given: list[str]) -> list[str]:
        """Behind words every answer is read; behind letters and writing stands nothing, or what the model says."""
        own = score.ModelRespondent(*self.speaker)
        if self.how == "closed" and form.tokens:
            (text,) = own.write([question], form)
            return [f"{form.delimiter}{text}"]
        if self.how == "closed" and not form.verbatim:
            return [given[int(own.choose([question], form)[0].argmax())]]
        return [*given, ""] if form.verbatim else [""]

    def begins(self, text: str, prompt: str) -> bool:
        return prompt in text if self.name in BEHIND else text.startswith(prompt)

    def fits(self, text: str, prompt: str, follows: list[str]) -> bool:
        """Whether a text is this prompt with one of these answers and nothing else; of few-shot, has it inside."""
        if not self.begins(text, prompt):
            return False
        rest = text.split(prompt, 1)[1]
        if self.name == "few_shot":
            return any(each and rest.startswith(each + "\n\n") for each in follows)
        return any(rest in (each, each + "\n") for each in follows)


def _misshown(shows: _Shows, seen: Seen) -> Iterator[str]:
    """Texts with a corpus's question in them that no task asks so, or that give it another answer."""
    every: dict[str, list[str]] = {}
    for hazard in seen.hazards:
        own = dict(pair for item in hazard.questions[shows.source] for pair in shows.asked(item, hazard))
        if not any(shows.fits(text, *pair) for text in seen.texts for pair in own.items()):
            yield f"form: no question of '{shows.source}' is shown as '{hazard.name}' asks it, {shows.how}"
        for prompt, follows in own.items():
            every.setdefault(prompt, []).extend(follows)
    stems = {item.question.stem for item in shows.materials.corpora[shows.source].items}
    for text in (each for each in seen.texts if any(stem in each for stem in stems)):
        there = {prompt: follows for prompt, follows in every.items() if shows.begins(text, prompt)}
        right = [shows.fits(text, prompt, [*follows, ""]) for prompt, follows in there.items()]
        if not there:
            yield f"form: {text!r} is shown, which no task asks"
        elif not (all(right) if shows.name == "few_shot" else any(right)):
            yield f"label: {text!r} is shown, which gives another answer"


def _misasked(materials: Materials, seen: Seen) -> Iterator[str]:
    """Dev questions that are asked otherwise than the examination asks them. An answer may follow."""
    prompts = [
        body(rotated(item.question, shift), form)
        for hazard in seen.hazards
        for form in [materials.exams[hazard.name].form]
        for item in hazard.dev
        for shift in range(1 if form.verbatim else len(item.question.choices))
    ]
    stems = [item.question.stem for item in materials.dev]
    for text in seen.texts:
        if any(stem in text for stem in stems) and not any(prompt in text for prompt in prompts):
            yield f"form: dev is asked {text!r}, which no task asks"


def off_course(name: str, materials: Materials, speaker: Speaker, original: Speaker) -> list[str]:
    """Directions that are added to the stream and do not point from where they should to where they should.

    Steering goes from forget questions to the others, or to the original's; declining lies on the side of the forget
    questions. Means are taken anew, from transformers' own hidden states.
    """
    added: list[torch.Tensor] = []
    whole = direction.adder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direction, "adder", lambda vector, strength: (added.append(vector), whole(vector, strength))[1])
        seen = run(name, materials, speaker, original)
    meant = []
    for hazard in seen.hazards:
        form = materials.exams[hazard.name].form

        def mean(which: Speaker, source: str, hazard: Hazard = hazard, form: Form = form) -> torch.Tensor:
            header = "" if form.verbatim else materials.corpora[source].header
            texts = [header + body(item.question, form) for item in hazard.questions[source]]
            ids = [torch.tensor([which.tokenizer(text.rstrip())["input_ids"]]) for text in texts]
            with torch.no_grad():
                ends = [which.model(each, output_hidden_states=True).hidden_states[1][0, -1] for each in ids]
            return torch.stack(ends).mean(dim=0)

        forget = mean(speaker, "forget")
        others = {"retain": mean(speaker, "retain"), "unrelated": mean(speaker, "unrelated")}
        others |= {"original": mean(original, "forget")} if name == "steer" else {}
        meant += [each - forget for each in others.values()]
    sign = {"steer": 1.0, "refusal_direction": -1.0}[name]
    closest = [max(float(torch.cosine_similarity(sign * each, one, dim=0)) for one in meant) for each in added]
    return [f"a direction points {each:.2f} along the nearest one that is meant" for each in closest if each < 0.5]
