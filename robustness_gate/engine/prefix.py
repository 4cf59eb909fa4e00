"""A text before a prompt, optimised token by token: its position, its validity as text, and its evaluation on dev.

A search works on tokens, and a model is asked in text. So a prefix counts only if its text, put before the prompts, is
encoded as exactly these tokens; and the loss is always that of the prompt as `engine.score` makes it. With several
formats the search uses the first one's tokens: a first word is often another token at the beginning of a text than
inside a chat template, and then no text has the same tokens in both.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import examples, lms, prompting, selection
from robustness_gate.engine.context import longest_prompt
from robustness_gate.errors import NotApplicable
from robustness_gate.records.attack import AttackedModel, GridPoint, Target
from robustness_gate.records.questions import Form, Item, Question, Replies, Rows

PROBES = ("!", "x", "the")
"""Three short texts: the common end of a prompt after all of them is the prompt around a prefix."""


@dataclass(frozen=True)
class Prefixed:
    """The edit: the same question after a text. See `engine.lms.Edited`."""

    text: str
    header: bool = True
    """Whether the form's header line is kept."""

    def __call__(self, question: Question, form: Form) -> tuple[Question, Form]:
        """A form with a prefix of its own keeps it, after this one."""
        before = f"{self.text} {form.prefix}" if form.prefix else self.text
        return question, replace(form, prefix=before, header=form.header if self.header else "")

    @property
    def digest(self) -> str:
        """The text's SHA-256, for the report."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Spelt(NamedTuple):
    """A prefix in tokens."""

    ids: list[int]
    """Its tokens in the first format, which the search changes."""
    forms: tuple[list[int], ...]
    """Its tokens in each format, with a blank before it if there is one."""


class Gap(NamedTuple):
    """A solved prompt with room for a prefix, in token ids."""

    before: list[int]
    after: list[int]
    """The rest of the prompt, and its answer."""
    answer: int
    """Number of tokens of the answer at the end."""
    form: int
    """Number of its format."""


class Row(NamedTuple):
    """A gap with a prefix in it: the model's input."""

    ids: list[int]
    start: int
    """Start of the prefix."""
    length: int
    """Its length in tokens."""
    answer: int


def gap(tokenizer: Any, item: Item, shift: int, form: Form, number: int = 0) -> Gap:
    """The prompt of a question in one letter order and in the format of this number, with its right answer.

    Raises:
        BrokenTrial: the tokenizer does not continue a prompt with its answer.
        NotApplicable: a text before the prompt changes the tokens of the prompt.
    """
    tried = [examples.answered(tokenizer, item, shift, Prefixed(each)(item.question, form)[1]) for each in PROBES]
    before = _shared([each.ids for each in tried])
    after = _shared([each.ids[::-1] for each in tried])[::-1]
    if any(len(before) + len(after) >= len(each.ids) for each in tried) or len(after) <= sum(tried[0].counts):
        raise NotApplicable("no text can be put before a prompt without changing the prompt's own tokens")
    return Gap(before, after, sum(tried[0].counts), number)


def rows(prefixes: Sequence[Spelt], gaps: Sequence[Gap]) -> list[Row]:
    """Every prefix in every gap, prefix by prefix."""
    return [_filled(prefix, gap) for prefix in prefixes for gap in gaps]


def _filled(prefix: Spelt, gap: Gap) -> Row:
    there, count = prefix.forms[gap.form], len(prefix.ids)
    own = count if there[-count:] == prefix.ids else len(there)  # there may be a blank before the first word
    return Row([*gap.before, *there, *gap.after], len(gap.before) + len(there) - own, own, gap.answer)


class Places:
    """Whether a prefix survives as text: decoded, put before a prompt and encoded, it is the same tokens again."""

    def __init__(
        self, tokenizer: Any, questions: Sequence[Question], forms: Sequence[Form], gaps: Sequence[Gap]
    ) -> None:
        """One question in each form represents all; `gaps` are its own. All in the order of the forms."""
        self._tokenizer, self._questions = tokenizer, tuple(questions)
        self._forms, self._gaps = tuple(forms), tuple(gaps)

    def surviving(self, prefixes: Sequence[Sequence[int]]) -> list[Spelt]:
        """The prefixes that keep their tokens in the first format and do not change the prompt in the others.

        A separate blank token before the first word is not counted. Without repetitions, in their order.
        """
        distinct = [list(each) for each in dict.fromkeys(tuple(prefix) for prefix in prefixes) if each]
        texts = [text_of(self._tokenizer, each) for each in distinct]
        places = zip(self._questions, self._forms, self._gaps, strict=True)
        spelt = [self._spelt(texts, question, form, gap) for question, form, gap in places]
        forms = [tuple(each) for each in zip(*spelt, strict=True)]
        return [
            Spelt(ids, found)
            for ids, found in zip(distinct, forms, strict=True)
            if all(found) and found[0][-len(ids) :] == ids and self._blank(found[0][: -len(ids)])
        ]

    def _blank(self, ids: Sequence[int]) -> bool:
        return not text_of(self._tokenizer, ids).strip()

    def _spelt(self, texts: Sequence[str], question: Question, form: Form, gap: Gap) -> list[list[int]]:
        """The tokens of each text before the prompt; none where the prompt's own tokens change."""
        if not texts:
            return []
        asked = [prompting.prompt_of(self._tokenizer, *Prefixed(text)(question, form)) for text in texts]
        tail = gap.after[: len(gap.after) - gap.answer]
        found = prompting.encode(self._tokenizer, [each.text for each in asked], special=asked[0].special)
        middles = [ids[len(gap.before) : len(ids) - len(tail)] for ids in found]
        return [
            middle if ids == [*gap.before, *middle, *tail] else [] for ids, middle in zip(found, middles, strict=True)
        ]


class Ground(NamedTuple):
    """The data of a search for a text."""

    prompts: list[tuple[Gap, ...]]
    """Solved questions, each in every format."""
    places: Places
    allowed: torch.Tensor
    """Which tokens the text may contain: [vocabulary]."""
    questions: int
    numbers: list[int]
    """For each of the hazards, the index of its form."""

    def first(self, count: int) -> list[Gap]:
        """The gaps of the first `count` prompts."""
        return [gap for prompt in self.prompts[:count] for gap in prompt]

    def batch(self, count: int, generator: torch.Generator) -> list[Gap]:
        """The gaps of `count` prompts, drawn without replacement; the first is in the first format."""
        drawn = torch.randperm(len(self.prompts), generator=generator)[:count].tolist()
        return [gap for at in drawn for gap in self.prompts[at]]


def ground(
    target: Target, source: str, *, questions: int, rotations: int, header: bool, longest: int, seed: int
) -> Ground:
    """The solved questions of a corpus around a prefix, as every task of the hazard asks them, in every letter order.

    Args:
        target: the attacked model.
        source: the corpus.
        questions: maximum number, the first of a seeded shuffle.
        rotations: number of cyclic letter orders.
        header: whether the corpus's header line is before them, where a task has one.
        longest: maximum length of a prefix; prompts without room for it are left out.
        seed: seed of the shuffle.

    Raises:
        NotApplicable: there is no room for a prefix before any prompt, or every prompt's tokens change after one.
    """
    tokenizer, ways = target.tokenizer, examples.ways(target, source)
    forms = [way.form if header else replace(way.form, header="") for way in ways]
    numbered = list(enumerate(zip(ways, forms, strict=True)))
    order = list(range(len(ways[0].items)))
    random.Random(seed).shuffle(order)
    order = order[:questions]
    prompts = [
        tuple(gap(tokenizer, way.items[at], shift, form, n) for n, (way, form) in numbered)
        for at in order
        for shift in range(min(rotations, len(ways[0].items[at].question.choices)))
    ]
    room = longest_prompt(target.model) - longest
    fitting = [each for each in prompts if all(len(gap.before) + len(gap.after) <= room for gap in each)]
    if not fitting:
        raise NotApplicable(f"no '{source}' question leaves room for {longest} tokens before it")
    places = Places(tokenizer, [way.items[order[0]].question for way in ways], forms, prompts[0])
    return Ground(fitting, places, writable(tokenizer, target.model), len(order), examples.numbers(target, source))


class Look(NamedTuple):
    """The evaluation of a text on dev."""

    prefix: Spelt
    edit: Prefixed
    dev: selection.Shares
    change: float
    """Mean distance of the answers from those to the plain questions, in nats a log-likelihood."""
    survives: float
    """Share of dev prompts in which the text is encoded as the evaluated tokens."""


def look(target: Target, plain: Sequence[Rows | Replies], prefix: Spelt, *, ground: Ground, header: bool) -> Look:
    """Ask the dev questions after a text; `plain` are the answers without it."""
    edit = Prefixed(text_of(target.tokenizer, prefix.ids), header)
    answers = selection.ask(lms.Edited(target.lm, edit), target.hazards)
    found = []
    for hazard, number in zip(target.hazards, ground.numbers, strict=True):
        asked = [prompting.prompt_of(target.tokenizer, *edit(item.question, hazard.form)) for item in hazard.dev]
        texts = prompting.encode(target.tokenizer, [each.text for each in asked], special=asked[0].special)
        found += [_holds(each, prefix.forms[number]) for each in texts]
    dev = selection.shares(answers, target.hazards)
    return Look(prefix, edit, dev, selection.change(plain, answers), sum(found) / len(found))


class Seen(NamedTuple):
    """A text at some point of a search, with its evaluation on dev."""

    at: Mapping[str, int]
    """Its position in the search: the step, and what else identifies it."""
    loss: float
    """Loss of the answers on the measured training prompts."""
    look: Look


def best_of(seen: Sequence[Seen]) -> Seen:
    """The best on dev, the first of equal ones."""
    return max(seen, key=lambda each: each.look.dev)


def recovered(
    target: Target,
    plain: Sequence[Rows | Replies],
    seen: Sequence[Seen],
    loss_start: float,
    *,
    budget: int,
    cost: Mapping[str, float],
    signals: Mapping[str, float],
) -> AttackedModel:
    """The attacked model with the best text on dev before questions, and the signals of every search for a text.

    Args:
        target: the attacked model.
        plain: the answers to dev without a text.
        seen: every evaluated text so far.
        loss_start: loss of the first text on the measured training prompts.
        budget: the budget.
        cost: the cost so far.
        signals: further signals of this search.
    """
    best, loss_end = best_of(seen), min(each.loss for each in seen)
    return AttackedModel(
        lms.Edited(target.lm, best.look.edit),
        budget=budget,
        cost=cost,
        signals={
            "loss_start": loss_start,
            "loss_end": loss_end,
            "loss_ratio": loss_end / loss_start if loss_start > 0 else 1.0,
            "survives": best.look.survives,
            "loglik_change": best.look.change,
            "plain_dev": selection.shares(plain, target.hazards).deciding,
            **best.look.dev.signals("chosen"),
            **signals,
        },
        selected={"prefix_sha256": best.look.edit.digest, **best.at, "loss": best.loss},
        settings_tried=[GridPoint(dict(each.at), each.look.dev.deciding) for each in seen],
    )


def text_of(tokenizer: Any, prefix: Sequence[int]) -> str:
    """The allowed tokens of a prefix."""
    return str(tokenizer.decode(list(prefix), clean_up_tokenization_spaces=False))


def writable(tokenizer: Any, model: Any) -> torch.Tensor:
    """Which tokens a prefix may contain: printable ASCII without the tokenizer's special tokens: [vocabulary]."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    allowed = torch.zeros(model.get_input_embeddings().weight.shape[0], dtype=torch.bool)
    for number in range(min(len(tokenizer), len(allowed))):
        text = text_of(tokenizer, [number])
        allowed[number] = number not in special and text.isascii() and text.isprintable() and bool(text.strip())
    return allowed


def drawn(places: Places, allowed: torch.Tensor, length: int, generator: torch.Generator) -> Spelt:
    """A prefix of at least one random token that survives.

    Raises:
        NotApplicable: none was found in 64 tries for each token.
    """
    pool = allowed.nonzero().flatten()
    prefix = Spelt([], ())
    while len(prefix.ids) < length:
        tries = pool[torch.randint(len(pool), (64,), generator=generator)].tolist() if len(pool) else []
        longer = places.surviving([[*prefix.ids, each] for each in tries])
        if not longer:
            raise NotApplicable("the tokenizer makes other tokens of almost any text that is put before a prompt")
        prefix = longer[0]
    return prefix


def _holds(ids: Sequence[int], part: Sequence[int]) -> bool:
    return any(list(ids[at : at + len(part)]) == list(part) for at in range(len(ids) - len(part) + 1))


def _shared(texts: Sequence[Sequence[int]]) -> list[int]:
    return [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False))]
