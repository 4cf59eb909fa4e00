"""Checks of the questions: letters, template, lengths, unusual questions, one answer; and whether the model can
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from robustness_gate import organisms
from robustness_gate.assurance import answering
from robustness_gate.assurance.doctor import tokenizer
from robustness_gate.assurance.doctor.findings import Check, Code, State, found
from robustness_gate.assurance.doctor.loading import Original
from robustness_gate.engine.context import context_length
from robustness_gate.errors import NotApplicable, SetupError
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.prompts import answers
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import specimens
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.records.suite import Suite
from robustness_gate.system.sentences import SHOWN

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel
    from robustness_gate.engine.prompting import Prompt

PADDED = 8
"""Number of prompts on which the effect of padding is measured."""


def speech(loaded: LoadedModel, suite: Loaded[Suite] | None, step: Callable[[str], None]) -> Iterator[Check]:
    """Tokenizer, letters, template, and one question."""
    from robustness_gate.engine.prompting import prompt_of

    its = loaded.tokenizer
    yield from tokenizer.described(loaded)
    tasks = _questions_by_task(suite)
    template = bool(getattr(its, "chat_template", None))
    if any(form.chat for _, form in tasks.values()) and not template:
        yield found("checkpoint", "PROBLEM", "chat template", Code.TEMPLATE_NEEDED)
    else:
        yield found("checkpoint", "ok", "chat template", Code.TEMPLATE if template else Code.NO_TEMPLATE)
    for name, (items, form) in tasks.items():
        if form.chat and not template:
            continue
        prompts = [prompt_of(its, item.question, form) for item in items]
        yield from special_tokens(its, name, items, form)
        yield from damaged(name, items)
        if form.tokens:
            yield from _end_marks(loaded, name, items, form)
        if not form.verbatim:  # other kinds score whole continuations
            yield _letters(its, name, prompts[0], form)
        if suite is not None or form.verbatim:
            yield from _lengths(loaded, name, prompts)
    if suite is not None:
        for each in specimens.of_tasks(gather(suite), read_by(loaded)):
            yield found("checkpoint", "ok", "prompt", Code.PROMPT, of=each.of, kind=each.description, text=each.text)
    items, form = next(iter(tasks.values()))
    if template or not form.chat:
        yield from _one_question(loaded, items, form, suite, step)


def _questions_by_task(suite: Loaded[Suite] | None) -> dict[str, tuple[tuple[Item, ...], Form]]:
    """Questions by task; without a suite one question of the invented world. Tasks of bare texts have no questions."""
    if suite is not None:
        tasks = gather(suite).tasks
        return {name: (task_data.items, task_data.form) for name, task_data in tasks.items() if not task_data.bare}
    return {"": (load_items(organisms.world("forget.dev"))[:1], Form())}


def no_questions() -> Check | None:
    """Why nothing can be asked without a suite: the questions of the organisms' world are not installed."""
    try:
        organisms.data()
    except SetupError as error:
        return found("checkpoint", "note", "loading", Code.NOTHING_TO_ASK, message=error.message, remedy=error.remedy)
    return None


def read_by(loaded: LoadedModel) -> specimens.Put:
    """How a question in a form becomes tokens for this model: the prompt, and its possible continuations."""
    from robustness_gate.engine.prompting import prompt_of

    def put(question: Question, form: Form) -> tuple[str, list[str]]:
        try:
            asked = prompt_of(loaded.tokenizer, question, form)
        except NotApplicable as error:
            return f"({error.message}) ", answers(question, form)
        return asked.text, asked.answers

    return put


def _letters(its: Any, name: str, prompt: Prompt, form: Form) -> Check:
    from robustness_gate.engine.prompting import letter_tokens

    letters = form.letters[: len(prompt.answers)]
    one_each = letter_tokens(its, prompt.text, prompt.answers, special=prompt.special) is not None
    code = Code.LETTERS if one_each else Code.LETTERS_NOT_ONE_TOKEN
    state: State = "ok" if one_each else "note"
    return found("checkpoint", state, "letters", code, first=letters[0], last=letters[-1], task=name)


def _one_question(
    loaded: LoadedModel, items: tuple[Item, ...], form: Form, suite: Loaded[Suite] | None, step: Callable[[str], None]
) -> Iterator[Check]:
    from robustness_gate.engine.score import ModelLM

    step("asking one question")
    lm = ModelLM(loaded.model, loaded.tokenizer)
    if not bool(lm.loglikelihoods([items[0].question], form).isfinite().all()):
        yield found("checkpoint", "PROBLEM", "answers", Code.NOT_FINITE)
        return
    step("asking in a batch")
    asked = items if suite is not None else load_items(organisms.world("forget.dev"))
    yield from _padding(loaded, [item.question for item in asked], form)


def answering_of(
    loaded: LoadedModel,
    original: Original,
    suite: Loaded[Suite] | None,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Whether this model and the original are better than guessing on the suite's tasks.

    The hazard is asked of the original alone: a candidate is expected to guess there.
    """
    from robustness_gate.engine.score import ModelLM

    if suite is None:  # without a suite only an organism can know the invented world
        return
    step("asking a handful of each task")
    suite_data = gather(suite)
    chances = {name: ref.chance for name, ref in suite_data.refs.items()}
    hazards = {each.name for each in suite_data.hazards}
    useful = {name: task_data for name, task_data in suite_data.tasks.items() if name not in hazards}
    own = answering.ask(ModelLM(loaded.model, loaded.tokenizer), useful, chances)
    theirs: dict[str, answering.Answered] = {}
    if original.stored is not None:
        with original.opened() as other:
            theirs = answering.ask(ModelLM(other.model, other.tokenizer), suite_data.tasks, chances)
    for name in suite_data.tasks:
        yield from answered(name, own.get(name), theirs.get(name))


def answered(name: str, own: answering.Answered | None, original: answering.Answered | None) -> Iterator[Check]:
    """The check of one task: `own` is None for the hazard, `original` is None without an original."""
    right, theirs = str(own or ""), str(original or "")
    if original is not None and not original.answers:
        yield found("checkpoint", "note", "answering", Code.ORIGINAL_GUESSES, task=name, original=theirs, right=right)
    elif own is not None and not own.answers and original is not None:
        yield found("checkpoint", "note", "answering", Code.CANDIDATE_GUESSES, task=name, right=right, original=theirs)
    elif own is not None and not own.answers:
        yield found("checkpoint", "note", "answering", Code.GUESSES_NO_ORIGINAL, task=name, right=right)
    elif own is not None:
        yield found("checkpoint", "ok", "answering", Code.ANSWERS, task=name, right=right)
    elif original is not None:
        yield found("checkpoint", "ok", "answering", Code.ORIGINAL_ANSWERS, task=name, right=theirs)


def _padding(loaded: LoadedModel, questions: Sequence[Question], form: Form) -> Iterator[Check]:
    """Whether an answer depends on the other prompts of its batch, or on being read in parts: see `engine.padding` and
    `engine.shared`.
    """
    from robustness_gate.engine import padding, shared
    from robustness_gate.engine.prompting import encode, prompt_of

    prompts = [prompt_of(loaded.tokenizer, question, form) for question in questions[:PADDED]]
    rows = encode(loaded.tokenizer, [each.text for each in prompts], special=prompts[0].special)
    pad, longest = padding.filler(loaded.model, loaded.tokenizer), max(map(len, rows), default=0)
    if padding.alike(loaded.model, rows, pad=pad):
        drift = padding.drift(loaded.model)
        nats = f"{drift.padded:.2g}" if drift else ""
        yield found("checkpoint", "note", "padding", Code.PADDING, nats=nats)
    elif not shared.applies(loaded.model, rows, longest, pad=pad):
        window = shared.reach(loaded.model)
        short = window if window < longest else 0
        yield found("checkpoint", "note", "whole passes", Code.WHOLE_PASSES, window=short)


def _end_marks(loaded: LoadedModel, name: str, items: Sequence[Item], form: Form) -> Iterator[Check]:
    """Ordinary words that the checkpoint declares as end-of-sequence tokens."""
    from robustness_gate.engine import ending, prompting

    dropped = prompting.end_marks(loaded.model, loaded.tokenizer, [item.question for item in items], form).dropped
    if dropped:
        names = ending.names_of(loaded.tokenizer, dropped)
        first = ", ".join(names[:SHOWN])
        more = max(0, len(names) - SHOWN)
        yield found("checkpoint", "note", "end marks", Code.END_MARKS_ARE_WORDS, tokens=first, more=more, task=name)


def special_tokens(its: Any, name: str, items: Sequence[Item], form: Form) -> Iterator[Check]:
    """Questions that contain text which this tokenizer reads as special tokens."""
    from robustness_gate.engine.pieces import control_tokens, controls_in
    from robustness_gate.engine.prompting import scored
    from robustness_gate.inputs.prompts import body

    known = control_tokens(its)
    words = {number: word for word, number in known.items()}
    holding = {
        item.question.id: ids
        for item in items
        if (ids := controls_in("\n".join([body(item.question, form), *scored(item.question, form)]), known))
    }
    if holding:
        first = ", ".join(f"{words[min(ids)]!r} in '{id_}'" for id_, ids in [*holding.items()][:SHOWN])
        yield found(
            "checkpoint", "note", "questions", Code.SPECIAL_TOKENS,
            count=len(holding), items=len(items), task=name, questions=first, more=max(0, len(holding) - SHOWN),
        )  # fmt: skip


DAMAGE = {
    "\ufffd": Code.LOST_LETTERS,
    "\x00": Code.NULL_CHARACTERS,
    "\ufeff": Code.BYTE_ORDER_MARKS,
}


def damaged(name: str, items: Sequence[Item]) -> Iterator[Check]:
    """Questions whose characters show that the data were read in a wrong encoding."""
    for signal, code in DAMAGE.items():
        ids = [each.question.id for each in items if signal in "".join((each.question.stem, *each.question.choices))]
        if ids:
            yield found(
                "checkpoint", "note", "questions", code,
                count=len(ids), items=len(items), task=name, questions=tuple(ids),
            )  # fmt: skip


def _lengths(loaded: LoadedModel, name: str, prompts: list[Prompt]) -> Iterator[Check]:
    """Prompts longer than the context, which lose their beginning."""
    from robustness_gate.engine.prompting import encode

    longest = context_length(loaded.model.config)
    texts = [prompt.text for prompt in prompts]
    tokens = [len(ids) for ids in encode(loaded.tokenizer, texts, special=prompts[0].special)]
    if longest and max(tokens) > longest:
        yield found(
            "checkpoint", "note", "questions", Code.LONGER_THAN_CONTEXT,
            count=sum(each > longest for each in tokens), items=len(prompts), task=name,
            tokens=max(tokens), context=longest,
        )  # fmt: skip
