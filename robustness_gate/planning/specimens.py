"""One exact prompt for each task and for each attack, for a reader to check.

An attack in another form than the task's finds nothing, without an error. So `plan -v` and `doctor` show each task's
and each attack's prompts exactly as the model gets them, with the answer marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from robustness_gate import attacks, tasks
from robustness_gate.errors import UnknownWord
from robustness_gate.inputs.prompts import answers, render
from robustness_gate.planning import applicability
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.verdict.hypotheses import label_of

Put = Callable[[Question, Form], tuple[str, list[str]]]
"""A function from a question in a form to the model's input: the prompt, and its possible answers."""
OPEN, CLOSE = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}", "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}"
END = "\N{RETURN SYMBOL}"
LONGEST = 200
"""Maximum length of a shown training text, in characters."""
HOW = {
    "solved": "with its right answer",
    "closed": "closed by what the model itself answers",
    "asked": "its prompt alone",
    "bare": "its bare words",
}


class Specimen(NamedTuple):
    """One prompt."""

    of: str
    """Name of the task, or of the attack with its settings."""
    description: str
    """The kind of prompt."""
    text: str
    """The model's input, with the answer between white square brackets; a return symbol ends a written answer's
    line."""
    in_form: bool = True
    """False where an attack does not run in a form of the hazard; then `text` is the reason."""


def plainly(question: Question, form: Form) -> tuple[str, list[str]]:
    """Rendering without a tokenizer: exact except for the chat template, which is in the tokenizer."""
    before = "(in the tokenizer's chat template) " if form.chat else ""
    return before + render(question, form), answers(question, form)


def of_tasks(suite_data: SuiteData, put: Put = plainly) -> Iterator[Specimen]:
    """One prompt of each task: for a hazard task a dev item, where there is one; for another its first item."""
    dev = {hazard.name: hazard.dev for hazard in suite_data.hazards if hazard.dev}
    for name, task_data in suite_data.tasks.items():
        if task_data.bare:
            continue
        item = dev.get(name, task_data.items)[0]
        kind = f"{task_data.kind}, a dev item" if name in dev else task_data.kind
        text = (
            put(item.question, task_data.form)[0] + OPEN + CLOSE
            if not tasks.load(task_data.kind).JUDGED.hazard
            else marked(put, item, task_data.form)
        )
        yield Specimen(name, kind, text)


def of_attack(name: str, config: Any, suite_data: SuiteData, put: Put = plainly) -> Iterator[Specimen]:
    """The data of an attack in every form of the hazard, or the reason why it does not run in it."""
    module, of = attacks.load(name), label_of(name, attacks.as_json(config))
    found = applicability.of(module, config, suite_data.hazards)
    for task, reason in found.reasons.items():
        yield Specimen(of, f"not in the form of '{task}'", reason, in_form=False)
    for source in _texts(config):
        if texts := suite_data.corpora[source].texts if source in suite_data.corpora else ():
            yield Specimen(of, f"a text of '{source}'", texts[0][:LONGEST])
    for hazard in found.hazards:
        for source in sorted(set(module.questions(config)) - {"dev"}):
            if items := hazard.questions.get(source, ()):
                title = f"a question of '{source}' as '{hazard.name}' asks, {HOW[module.SHOWS]}"
                header = suite_data.corpora[source].header
                yield Specimen(of, title, _shown(put, items[0], hazard, header, module.SHOWS))
        if module.SHOWS == "dev" and "dev" in module.questions(config) and hazard.dev:
            yield Specimen(of, f"chooses on dev items as '{hazard.name}' asks", marked(put, hazard.dev[0], hazard.form))


def marked(put: Put, item: Item, form: Form) -> str:
    """A question in a form, with its right answer marked."""
    text, options = put(item.question, form)
    return f"{text}{OPEN}{options[item.answer]}{END if form.tokens else ''}{CLOSE}"


def _shown(put: Put, item: Item, hazard: Hazard, header: str, how: str) -> str:
    if how == "bare":
        return item.question.stem
    form = hazard.form if hazard.form.verbatim else replace(hazard.form, header=header)
    if how == "solved":
        return marked(put, item, form)
    if how not in ("asked", "closed"):
        raise UnknownWord("way of showing a question", how)
    text, _ = put(item.question, form)
    return f"{text}{OPEN}{'...' if how == 'closed' else ''}{CLOSE}"


def _texts(config: Any) -> list[str]:
    """Corpora whose texts are used and not their questions."""
    if getattr(config, "train_on", "") == "texts":
        return [config.source]
    on = getattr(config, "calibrate_on", ())
    return ["forget", *config.utility] if on and "questions" not in on else []
