"""Wrappers around an LM for attackers who change only prompts and the use of answers.

They change nothing in the model. They edit questions before they pass them on, and the letter orders of
`engine.score.content_logliks`, all metrics and the utility tasks go through them like any other question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from robustness_gate.engine import generate, prompting
from robustness_gate.inputs.prompts import thinking, thought
from robustness_gate.records.questions import LM, Form, Question

Edit = Callable[[Question, Form], tuple[Question, Form]]
"""An edit of the questions. The choices keep their number and order, since answers are matched by position."""


@dataclass(frozen=True)
class Edited:
    """Asks edited questions and returns the answers."""

    lm: LM
    edit: Edit

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers to the edited questions: [question, choice]; equal forms are asked together.

        An edit that changes nothing asks the same questions in the same batches, so the answers are identical.
        """
        found = torch.empty(len(questions), len(questions[0].choices))
        for asked, places, edited in self._together(questions, form):
            found[places] = self.lm.loglikelihoods(edited, asked)
        return found

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """The text that the LM generates after the edited questions."""
        found: list[str | None] = [None] * len(questions)
        for asked, places, edited in self._together(questions, form):
            for at, text in zip(places, self.lm.generate(edited, asked), strict=True):
                found[at] = text
        return found

    def _together(self, questions: Sequence[Question], form: Form) -> Iterator[tuple[Form, list[int], list[Question]]]:
        """Each form that the edit makes, with the indices and the edited questions in it."""
        edited = [self.edit(question, form) for question in questions]
        places: dict[Form, list[int]] = {}
        for at, (_, asked) in enumerate(edited):
            places.setdefault(asked, []).append(at)
        yield from ((asked, each, [edited[at][0] for at in each]) for asked, each in places.items())


@dataclass(frozen=True)
class Calibrated:
    """Subtracts each letter's prior from the answers.

    With p the mean log-likelihood of each letter over the probes, an answer x becomes x - p, shifted by one number a
    question so that all letters together keep their probability. In the metric acc_permuted p adds the same to every
    choice and cancels; in a single order it removes a preference for a letter.
    """

    lm: LM
    probes: Callable[[int], Sequence[Question]]
    """Questions with so many choices on which the prior is measured; none leaves the answers unchanged."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers without the prior: [question, choice]. Verbatim answers have no letters."""
        found = self.lm.loglikelihoods(questions, form)
        probes = () if form.verbatim else self.probes(found.shape[1])
        if not probes:
            return found
        liking = self.lm.loglikelihoods(probes, form)
        free = found - liking[liking.isfinite().all(dim=1)].mean(dim=0)  # may be nan
        return free - free.logsumexp(dim=1, keepdim=True) + found.logsumexp(dim=1, keepdim=True)

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """The LM's own text: only letters are calibrated."""
        return self.lm.generate(questions, form)


@dataclass(frozen=True)
class Respelling:
    """The same text in other tokens: each token that consists of two tokens of the vocabulary is split with a
    probability.

    The model gets the same characters in a tokenization that it has seldom seen.
    """

    halves: Mapping[int, tuple[int, int]]
    share: float
    """Probability with which a token is split, in [0, 1]."""
    seed: int

    def __call__(self, ids: Sequence[int]) -> list[int]:
        """The ids with some split in two; the result depends on the ids alone."""
        rng = random.Random(self.seed)
        found: list[int] = []
        for each in ids:
            cut = rng.random() < self.share
            found += self.halves.get(each, (each,)) if cut else (each,)
        return found


def halves(tokenizer: Any) -> dict[int, tuple[int, int]]:
    """For each token that is a concatenation of two others of the vocabulary, the two of most equal length."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    found = {}
    for word, number in vocabulary.items():
        if word in special or word.startswith("<0x"):  # a byte token such as <0x0A>
            continue
        for at in sorted(range(1, len(word)), key=lambda at: (abs(2 * at - len(word)), at)):
            if word[:at] in vocabulary and word[at:] in vocabulary:
                found[number] = (vocabulary[word[:at]], vocabulary[word[at:]])
                break
    return found


class Remembered:
    """Caches answers, for an attack that needs the same answers repeatedly.

    Valid only while the wrapped LM does not change.
    """

    def __init__(self, lm: LM) -> None:
        self.lm = lm
        self._known: dict[tuple[tuple[Question, ...], Form], torch.Tensor] = {}

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers to these questions: [question, choice]."""
        key = (tuple(questions), form)
        if key not in self._known:
            self._known[key] = self.lm.loglikelihoods(questions, form)
        return self._known[key].clone()

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """The LM's own text, not cached."""
        return self.lm.generate(questions, form)


JITTER = 1e-4
"""Size of the random term that breaks ties between votes."""


@dataclass(frozen=True)
class Sampled:
    """Replaces likelihoods by estimates from the votes of k sampled answers.

    Each answer is drawn from the choices alone, with the LM's odds at a temperature. A choice with v of k votes
    among n gets ln((v + 1/2) / (k + n/2)) (Krichevsky and Trofimov's estimate: no vote does not mean zero probability),
    and all together keep their total probability. So the likeliest is the one with most votes, and the sum over letter
    orders adds up evidence.
    """

    lm: LM
    draws: int
    """Answers for each question and letter order; 0 keeps the likelihoods."""
    temperature: float
    seed: int

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Estimated log-likelihoods: [question, choice]. The answer to a question does not depend on the others in the
        call.
        """
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
        """The LM's own text, greedy: only choices are sampled here."""
        return self.lm.generate(questions, form)


@dataclass(frozen=True)
class Thinking:
    """Lets the model think before each answer where its chat template is used; elsewhere asks directly."""

    lm: LM
    model: Any
    tokenizer: Any
    tokens: int
    """Maximum number of tokens in the thinking block."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The LM's answers after the model's thoughts about each question: [question, choice]."""
        return self.lm.loglikelihoods(questions, self._behind(questions, form) if form.chat else form)

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """The text that the LM generates after the model's thoughts about each question."""
        return self.lm.generate(questions, self._behind(questions, form) if form.chat else form)

    def _behind(self, questions: Sequence[Question], form: Form) -> Form:
        """The form with each prompt's thoughts in it, which the model generates here."""
        prompts = [prompting.prompt_of(self.tokenizer, question, form).text for question in questions]
        opened = [thinking(prompt) for prompt in prompts]
        ends = prompting.end_marks(self.model, self.tokenizer, questions, form)
        words = generate.continued(
            self.model,
            self.tokenizer,
            opened,
            special=False,
            tokens=self.tokens,
            until="</think>",
            stops=ends.kept,
        )
        behind = {prompt: thought(prompt, each.strip()) for prompt, each in zip(prompts, words, strict=True)}

        def after(text: str) -> str:
            return behind[text if form.rewrite is None else form.rewrite(text)]

        return replace(form, rewrite=after)
