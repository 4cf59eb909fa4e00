"""LMs around an LM: what an attacker does who can only ask, and who hears the answers.

They change nothing in the model. What they are asked goes on as something else, and the letter orders of
`engine.score.content_logliks`, both readings and the utility tasks come through them like any other question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from robustness_gate.engine import generate, score
from robustness_gate.inputs.prompts import thinking, thought
from robustness_gate.records.questions import LM, Form, Question

Edit = Callable[[Question, Form], tuple[Question, Form]]
"""What is asked instead. The choices keep their number and places: an answer is read by where it stands."""


@dataclass(frozen=True)
class Edited:
    """Asks something else than it was told to ask, and hands the answers on."""

    lm: LM
    edit: Edit

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers to the edited questions: [question, choice]; equal forms are asked together.

        An edit that changes nothing asks exactly what it was told, in the same batches: the answers are the same bits.
        """
        found = torch.empty(len(questions), len(questions[0].choices))
        for asked, places, edited in self._together(questions, form):
            found[places] = self.lm.loglikelihoods(edited, asked)
        return found

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """What the LM writes behind the edited questions."""
        found: list[str | None] = [None] * len(questions)
        for asked, places, edited in self._together(questions, form):
            for at, text in zip(places, self.lm.generate(edited, asked), strict=True):
                found[at] = text
        return found

    def _together(self, questions: Sequence[Question], form: Form) -> Iterator[tuple[Form, list[int], list[Question]]]:
        """Each form that the edit makes, with the places and the edited questions that are asked in it."""
        edited = [self.edit(question, form) for question in questions]
        places: dict[Form, list[int]] = {}
        for at, (_, asked) in enumerate(edited):
            places.setdefault(asked, []).append(at)
        yield from ((asked, each, [edited[at][0] for at in each]) for asked, each in places.items())


@dataclass(frozen=True)
class Calibrated:
    """Takes off what a letter gets whatever is asked.

    With p the mean log-likelihood of each letter over the probes, an answer x becomes x - p, shifted by one number a
    question so that all letters together keep their probability. In the content_sum reading p adds the same to every
    choice and cancels; in a single order it undoes a liking for a letter.
    """

    lm: LM
    probes: Callable[[int], Sequence[Question]]
    """Questions with so many choices on which the liking is read; none leaves the answers as they are."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers without the liking: [question, choice]. Verbatim answers have no letters."""
        found = self.lm.loglikelihoods(questions, form)
        probes = () if form.verbatim else self.probes(found.shape[1])
        if not probes:
            return found
        liking = self.lm.loglikelihoods(probes, form)
        free = found - liking[liking.isfinite().all(dim=1)].mean(dim=0)  # none finite: nan, and so is every answer
        return free - free.logsumexp(dim=1, keepdim=True) + found.logsumexp(dim=1, keepdim=True)

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """As the LM writes: only letters are calibrated."""
        return self.lm.generate(questions, form)


@dataclass(frozen=True)
class Respelling:
    """The same text in other tokens: each token that can be cut into two of the vocabulary is, with a probability.

    The model reads the same characters in pieces in which it has seldom seen them.
    """

    halves: Mapping[int, tuple[int, int]]
    share: float
    """Probability with which a token is cut, in [0, 1]."""
    seed: int

    def __call__(self, ids: Sequence[int]) -> list[int]:
        """The ids with some cut in two; the same ids are always cut alike."""
        rng = random.Random(self.seed)
        found: list[int] = []
        for each in ids:
            cut = rng.random() < self.share
            found += self.halves.get(each, (each,)) if cut else (each,)
        return found


def halves(tokenizer: Any) -> dict[int, tuple[int, int]]:
    """For each token that is two others of the vocabulary written together, those two, as equally long as can be."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    found = {}
    for word, number in vocabulary.items():
        if word in marks or word.startswith("<0x"):  # a byte that a vocabulary spells out
            continue
        for at in sorted(range(1, len(word)), key=lambda at: (abs(2 * at - len(word)), at)):
            if word[:at] in vocabulary and word[at:] in vocabulary:
                found[number] = (vocabulary[word[:at]], vocabulary[word[at:]])
                break
    return found


class Remembered:
    """Asks once and remembers: for an attack that hears the same answers again and again.

    Only where what it stands around does not change meanwhile.
    """

    def __init__(self, lm: LM) -> None:
        self.lm = lm
        self._known: dict[tuple[tuple[Question, ...], Form], torch.Tensor] = {}

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers to these questions in this order: [question, choice]."""
        key = (tuple(questions), form)
        if key not in self._known:
            self._known[key] = self.lm.loglikelihoods(questions, form)
        return self._known[key].clone()

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """As the LM writes, not remembered."""
        return self.lm.generate(questions, form)


JITTER = 1e-4
"""Of a vote: ties are broken by it, and nothing else is."""


@dataclass(frozen=True)
class Sampled:
    """Hears k sampled answers instead of likelihoods, and estimates these from the votes.

    Each answer is drawn from the choices alone, with the LM's odds at a temperature. A choice with v of k votes
    among n gets ln((v + 1/2) / (k + n/2)) (Krichevsky and Trofimov's estimate: no vote is not no chance), and all
    together keep the probability that they had. So the likeliest is the one with most votes, and the sum over letter
    orders is evidence added up.
    """

    lm: LM
    draws: int
    """Answers a question and letter order; 0 hears the likelihoods as they are."""
    temperature: float
    seed: int

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Estimated log-likelihoods: [question, choice]. A question is always answered alike, whatever is beside it."""
        found = self.lm.loglikelihoods(questions, form)
        if not self.draws:
            return found
        odds = (found.double() / self.temperature).softmax(dim=1)
        votes = torch.full_like(odds, torch.nan)
        for at, question in enumerate(questions):
            if bool(odds[at].isfinite().all()):
                votes[at] = torch.tensor(self._votes(question, odds[at].tolist()), dtype=odds.dtype)
        estimate = ((votes + 0.5) / (self.draws + 0.5 * odds.shape[1])).log()
        return (estimate - estimate.logsumexp(dim=1, keepdim=True)).float() + found.logsumexp(dim=1, keepdim=True)

    def _votes(self, question: Question, odds: Sequence[float]) -> list[float]:
        rng = random.Random(f"{self.seed} {question.id} {question.choices}")
        drawn = rng.choices(range(len(odds)), weights=odds, k=self.draws)
        return [drawn.count(choice) + JITTER * rng.random() for choice in range(len(odds))]

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """As the LM writes, greedily: what is sampled here are choices."""
        return self.lm.generate(questions, form)


@dataclass(frozen=True)
class Thinking:
    """Lets the model think before each answer, where it is asked in its chat template; elsewhere just asks."""

    lm: LM
    model: Any
    tokenizer: Any
    tokens: int
    """The thinking block is closed after at most so many."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers behind what the model thought of each: [question, choice]."""
        return self.lm.loglikelihoods(questions, self._behind(questions, form) if form.chat else form)

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """What the LM writes behind what the model thought of each."""
        return self.lm.generate(questions, self._behind(questions, form) if form.chat else form)

    def _behind(self, questions: Sequence[Question], form: Form) -> Form:
        """The form with each prompt's thoughts in it. The model thinks now."""
        prompts = [score.prompt_of(self.tokenizer, question, form).text for question in questions]
        opened = [thinking(prompt) for prompt in prompts]
        marks = score.end_marks(self.model, self.tokenizer, questions, form)
        words = generate.continued(
            self.model,
            self.tokenizer,
            opened,
            special=False,
            tokens=self.tokens,
            until="</think>",
            stops=marks.kept,
        )
        behind = {prompt: thought(prompt, each.strip()) for prompt, each in zip(prompts, words, strict=True)}

        def after(text: str) -> str:
            return behind[text if form.rewrite is None else form.rewrite(text)]

        return replace(form, rewrite=after)
