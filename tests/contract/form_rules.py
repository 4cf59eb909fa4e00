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

from robustness_gate import attacks, organisms, tasks
from robustness_gate.assurance import attack_contract
from robustness_gate.engine import direction, prompting, score
from robustness_gate.engine.load import LoadedModel
from robustness_gate.inputs.prompts import answers, body, rotated
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import applicability
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.running import trial

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


def bench(folder: Path, *tasks: str) -> SuiteData:
    """A suite's suite_data in which these tasks are the hazard."""
    for name, source in FILES.items():
        lines = organisms.world(source).read_text(encoding="utf-8").splitlines()[:6]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "task.yaml").write_text(HARNESS, encoding="utf-8")
    text = (
        "schema: robustness-gate/suite/v1\nid: forms\nversion: 1.0.0\ndescription: Every kind.\n"
        f"hazard: [{', '.join(tasks)}]\ndev: dev.jsonl\ntasks:\n"
        + "".join(f"  {name}: {TASKS[name]}\n" for name in TASKS)
        + "corpora:\n  forget: {items: forget.jsonl, topic: the craft}\n  retain: {items: retain.jsonl, topic: Tarn}\n"
        "  unrelated: {items: unrelated.jsonl}\nattacks: [{attack: none}]\n"
    )
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return gather(load_suite(folder / "suite.yaml"))


def config_of(module: ModuleType) -> Any:
    """Settings that take part of a second."""
    return module.Config(**module.CONTRACT.tiny)


def small_model(seed: int) -> LoadedModel:
    """Some thousand random parameters behind the organisms' tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    return LoadedModel(model.requires_grad_(False), tokenizer)


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


def run(name: str, suite_data: SuiteData, loaded: LoadedModel, original: LoadedModel) -> Seen:
    """Run an attack in every form of the hazard that it speaks, and keep what it shows."""
    module = attacks.load(name)
    config = config_of(module)
    found = applicability.of(module, config, suite_data.hazards)
    if not found.hazards:
        return Seen((), [], set(), [])
    opened: set[str] = set()
    hazards = tuple(dataclasses.replace(h, questions=_Watched(h.questions, opened)) for h in found.hazards)
    target = trial.target_of(suite_data, loaded, lambda: contextlib.nullcontext(original), hazards)
    seen = Seen(found.hazards, [], opened, [])
    whole = prompting.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompting, "encode", lambda t, texts, *, special: (
            seen.texts.extend(texts), whole(t, texts, special=special))[1])  # fmt: skip
        for attacked in module.attack(target, config, 1):
            told = _told(attacked)
            if told is not None:
                seen.dev.append((told, examined(attacked.model, suite_data, found.hazards)))
    return seen


def _told(attacked: Any) -> float | None:
    """The dev accuracy of what is handed over, as the attack tells it: of the best that it screened."""
    if "chosen_dev" in attacked.signals:
        return float(attacked.signals["chosen_dev"])
    own = [
        each.dev_accuracy
        for each in attacked.settings_tried
        if each.setting.get("budget", attacked.budget) == attacked.budget
    ]
    return max(own) if own else None


def examined(lm: Any, suite_data: SuiteData, hazards: tuple[Hazard, ...]) -> float:
    """The share of dev items that the examiner finds right, by the key of the suite's own file. Highest over tasks."""
    least = min(0.0 if each.kind == "open_answer" else 0.25 for each in hazards)
    shares = []
    for hazard in hazards:
        task_data, key = suite_data.tasks[hazard.name], _key()
        task = tasks.load(task_data.kind)
        rows = task.ask(lm, task.Config(tuple(item.question for item in hazard.dev), task_data.form))
        right = task.read(rows, [{key[item.question.id]} for item in hazard.dev]).correct[task.JUDGED.deciding]
        share, chance = sum(right) / len(right), 0.0 if task_data.kind == "open_answer" else 0.25
        shares.append(share if chance == least else max(0.0, least + (1 - least) * (share - chance) / (1 - chance)))
    return max(shares)


def _key() -> dict[str, int]:
    """The right choice of each dev item, read from the file anew: nothing that an attack was given is believed."""
    rows = map(json.loads, organisms.world("forget.dev").read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["answer"] for row in rows}


# --- the laws ---------------------------------------------------------------------------------------------------------


def faults(name: str, suite_data: SuiteData, loaded: LoadedModel, original: LoadedModel) -> list[str]:
    """Every way in which an attack does not do what the hazard's tasks ask."""
    module = attacks.load(name)
    seen = run(name, suite_data, loaded, original)
    if not seen.hazards:
        return []
    how = module.SHOWS
    config, behind = config_of(module), getattr(module, "EDITS", "") == "before"
    found = [*_undeclared(module, config, seen)]
    if how not in ("dev", "bare"):
        for source in sorted(set(module.questions(config)) - {"dev"}):
            found += _misshown(_Shows(name, source, how, behind, suite_data, loaded), seen)
    if not hasattr(module, "EDITS"):
        found += _misasked(suite_data, seen)
    if module.FAMILY not in attack_contract.ONLY_LOOKS:  # what a probe screens by is no dev reading
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
    behind: bool
    """Whether the attack puts something before a prompt."""
    suite_data: SuiteData
    loaded: LoadedModel

    def asked(self, item: Item, hazard: Hazard) -> Iterator[tuple[str, list[str]]]:
        """The prompts in which the examination would ask this question, each with the answers that may follow it."""
        form = self.suite_data.tasks[hazard.name].form
        header = "" if form.verbatim or self.name == "few_shot" else self.suite_data.corpora[self.source].header
        form = dataclasses.replace(form, header=header)
        for shift in range(1 if form.verbatim else len(item.question.choices)):
            question = rotated(item.question, shift)
            given = answers(question, form)
            right = given[question.choices.index(item.question.choices[item.answer])]
            follows = [right] if self.how == "solved" else self._answers(question, form, given)
            yield header + body(question, form), follows

    def _answers(self, question: Question, form: Form, given: list[str]) -> list[str]:
        """Behind words every answer is read; behind letters and writing stands nothing, or what the model says."""
        own = score.ModelLM(*self.loaded)
        if self.how == "closed" and form.tokens:
            (text,) = own.generate([question], form)
            return [f"{form.delimiter}{text}"]
        if self.how == "closed" and not form.verbatim:
            return [given[int(own.loglikelihoods([question], form)[0].argmax())]]
        return [*given, ""] if form.verbatim else [""]

    def begins(self, text: str, prompt: str) -> bool:
        return prompt in text if self.behind else text.startswith(prompt)

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
    stems = {item.question.stem for item in shows.suite_data.corpora[shows.source].items}
    for text in (each for each in seen.texts if any(stem in each for stem in stems)):
        there = {prompt: follows for prompt, follows in every.items() if shows.begins(text, prompt)}
        right = [shows.fits(text, prompt, [*follows, ""]) for prompt, follows in there.items()]
        if not there:
            yield f"form: {text!r} is shown, which no task asks"
        elif not (all(right) if shows.name == "few_shot" else any(right)):
            yield f"label: {text!r} is shown, which gives another answer"


def _misasked(suite_data: SuiteData, seen: Seen) -> Iterator[str]:
    """Dev questions that are asked otherwise than the examination asks them. An answer may follow."""
    prompts = [
        body(rotated(item.question, shift), form)
        for hazard in seen.hazards
        for form in [suite_data.tasks[hazard.name].form]
        for item in hazard.dev
        for shift in range(1 if form.verbatim else len(item.question.choices))
    ]
    stems = [item.question.stem for item in suite_data.dev]
    for text in seen.texts:
        if any(stem in text for stem in stems) and not any(prompt in text for prompt in prompts):
            yield f"form: dev is asked {text!r}, which no task asks"


def off_course(name: str, suite_data: SuiteData, loaded: LoadedModel, original: LoadedModel) -> list[str]:
    """Directions that are added to the stream and do not point from where they should to where they should.

    Steering goes from forget questions to the others, or to the original's; declining lies on the side of the forget
    questions. Means are taken anew, from transformers' own hidden states.
    """
    added: list[torch.Tensor] = []
    whole = direction.adder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direction, "adder", lambda vector, strength: (added.append(vector), whole(vector, strength))[1])
        seen = run(name, suite_data, loaded, original)
    meant = []
    for hazard in seen.hazards:
        form = suite_data.tasks[hazard.name].form

        def mean(which: LoadedModel, source: str, hazard: Hazard = hazard, form: Form = form) -> torch.Tensor:
            header = "" if form.verbatim else suite_data.corpora[source].header
            texts = [header + body(item.question, form) for item in hazard.questions[source]]
            ids = [torch.tensor([which.tokenizer(text.rstrip())["input_ids"]]) for text in texts]
            with torch.no_grad():
                ends = [which.model(each, output_hidden_states=True).hidden_states[1][0, -1] for each in ids]
            return torch.stack(ends).mean(dim=0)

        forget = mean(loaded, "forget")
        others = {"retain": mean(loaded, "retain"), "unrelated": mean(loaded, "unrelated")}
        others |= {"original": mean(original, "forget")} if name == "steer" else {}
        meant += [each - forget for each in others.values()]
    sign = {"steer": 1.0, "refusal_direction": -1.0}[name]
    closest = [max(float(torch.cosine_similarity(sign * each, one, dim=0)) for one in meant) for each in added]
    return [f"a direction points {each:.2f} along the nearest one that is meant" for each in closest if each < 0.5]
