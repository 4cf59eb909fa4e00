"""One exact prompt for each task and for each attack, to be read by a person: is this what was meant?

An attack that is made in other words than the task asks finds nothing, and nothing looks wrong. So `plan -v` and
`doctor` show what each task asks and what each attack is made on, as the model gets it, with the answer marked.
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
"""A question in a form as the model reads it: the prompt, and what may follow it."""
OPEN, CLOSE = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}", "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}"
END = "\N{RETURN SYMBOL}"
LONGEST = 200
"""Of a text that is trained on, in characters."""
HOW = {
    "solved": "with its right answer",
    "closed": "closed by what the model itself answers",
    "asked": "its prompt alone",
    "bare": "its bare words",
}


class Specimen(NamedTuple):
    """One prompt."""

    of: str
    """The task, or the attack with its settings."""
    description: str
    """What it is."""
    text: str
    """As the model reads it, the answer between white square brackets; a return symbol ends a written answer's line."""
    in_form: bool = True
    """False where an attack is not made in a form of the hazard; then `text` says why."""


def plainly(question: Question, form: Form) -> tuple[str, list[str]]:
    """Without a tokenizer: exact but for a chat template, which is the tokenizer's."""
    before = "(in the tokenizer's chat template) " if form.chat else ""
    return before + render(question, form), answers(question, form)


def of_tasks(suite_data: SuiteData, put: Put = plainly) -> Iterator[Specimen]:
    """What each task asks: of a hazard task a dev item, where there is one, of another its first item."""
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
    """What an attack is made on, in every form of the hazard in which it is made, or why it is not."""
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
                says = f"a question of '{source}' as '{hazard.name}' asks, {HOW[module.SHOWS]}"
                header = suite_data.corpora[source].header
                yield Specimen(of, says, _shown(put, items[0], hazard, header, module.SHOWS))
        if module.SHOWS == "dev" and "dev" in module.questions(config) and hazard.dev:
            yield Specimen(of, f"chooses on dev items as '{hazard.name}' asks", marked(put, hazard.dev[0], hazard.form))


def marked(put: Put, item: Item, form: Form) -> str:
    """A question in a form, its right answer marked."""
    text, given = put(item.question, form)
    return f"{text}{OPEN}{given[item.answer]}{END if form.tokens else ''}{CLOSE}"


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
    """Corpora whose texts are read in place of their questions."""
    if getattr(config, "train_on", "") == "texts":
        return [config.source]
    on = getattr(config, "calibrate_on", ())
    return ["forget", *config.utility] if on and "questions" not in on else []
