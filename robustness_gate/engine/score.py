"""Ask a model: one forward pass for each prompt with letters, one for each generated token.

Logits are taken at the last position only, except where continuations are scored. Prompts of unequal length share a
batch where padding does not change this model's answers (`engine.padding`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import clock, ending, padding, pieces
from robustness_gate.engine.context import longest_prompt
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.inputs.prompts import answers, body, render, rotated
from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Form, Item, Question, Replies, Rows
from robustness_gate.system.bounded import Panic

TOKENS_PER_BATCH = 16_384
TEXTS_AT_ONCE = 32
"""Maximum number of texts in one call of a tokenizer: the time of a call is limited (`bounded`), and a corpus may be
long."""
MOST_RENDERED = 1_000_000
"""Maximum number of characters that a chat template may add to a prompt."""
NAMED = 16
"""Maximum number of dropped end tokens, and of special tokens in questions, that are named by their token ids."""


@dataclass
class Notes:
    """Events on the way from questions to a model, by the questions' ids where they concern single questions."""

    cut: set[str] = field(default_factory=set)
    """Their prompts were longer than the context and lost their beginning: an example or the header. Where the question
    itself was cut, there is no answer either."""
    curtailed: set[str] = field(default_factory=set)
    """Those of them in which text of the attack may have been cut: then the attack was not made as described."""
    lost: set[str] = field(default_factory=set)
    """Part of the question itself did not reach the model, through its tokenizer, template or context: no answer."""
    controls: dict[str, frozenset[int]] = field(default_factory=dict)
    """Lost questions in which the tokenizer encodes text of the question, or of an answer scored as a continuation, as
    special tokens, with their ids."""
    strange: set[str] = field(default_factory=set)
    """Their tokens are not in the model's vocabulary: they have no answer."""
    words: set[int] = field(default_factory=set)
    """Token ids that the checkpoint declares as end tokens and that occur in the questions or answers: they do not end
    an answer."""
    drift: float = 0.0
    """The effect that padding would have had on answers, in nats, where prompts of unequal length were not batched."""
    clock: float = 0.0
    """The fixed date given to a chat template that used it, in seconds since 1970; 0 where none did."""

    def counts(self) -> dict[str, float]:
        """Counts for a measurement's summary; zeros are left out, except for cut prompts."""
        counts = {
            "curtailed_items": len(self.curtailed),
            "strange_items": len(self.strange),
            "control_items": len(self.controls),
            "end_marks_dropped": len(self.words),
            "padding_drift": round(self.drift, 6),
            "template_clock": self.clock,
        }
        which = {f"end_mark_dropped_{token}": 1 for token in sorted(self.words)[:NAMED]}
        counted = {name: float(each) for name, each in {**counts, **which}.items() if each}
        return {"truncated_items": float(len(self.cut)), **counted}

    @property
    def special_tokens(self) -> tuple[int, ...]:
        """The lowest ids in `controls`, rising."""
        return tuple(sorted(frozenset[int]().union(*self.controls.values()))[:NAMED])


_NOTES: ContextVar[Notes | None] = ContextVar("what happens to questions on their way", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """Record the events on the way from questions to a model while the block is open."""
    notes = Notes()
    before = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(before)


Look = Callable[[Any, Sequence[str], Sequence[list[int]], bool], None]
_WATCHED: ContextVar[Look | None] = ContextVar("who sees what is encoded", default=None)


@contextmanager
def watching(look: Look) -> Iterator[None]:
    """Call a function with everything that is encoded while the block is open: tokenizer, texts, their ids, and
    `special`.
    """
    before = _WATCHED.set(look)
    try:
        yield
    finally:
        _WATCHED.reset(before)


@dataclass(frozen=True)
class ModelLM:
    """The LM of a model in its present state: scopes that are open around it affect its answers."""

    model: Any
    tokenizer: Any
    tokens_per_batch: int = TOKENS_PER_BATCH
    respelling: Callable[[Sequence[int]], list[int]] | None = None
    """Applied to the token ids of every prompt, but not to those of its answers."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer after its prompt, normalised over the whole vocabulary.

        Where every letter is one distinct token after the prompt, one forward pass scores all letters. Otherwise, and
        for verbatim answers, each is scored as a continuation, as in lm-evaluation-harness.

        Returns:
            float32 on the CPU, shape [question, choice], in nats.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompt_of(self.tokenizer, question, form) for question in questions]
        texts, special = [each.text for each in asked], asked[0].special
        encoded = self._fitting(questions, form, texts, self._longest, special=special)
        lost = self._lost(questions, form, encoded) | self._strange(questions, encoded)
        letters = None if form.verbatim else letter_tokens(self.tokenizer, texts[0], asked[0].answers, special=special)
        if letters is None:
            found = self._continuations(texts, [each.answers for each in asked], special=special)
        else:
            padding.refuse_strangers(self.model, [letters])
            found = torch.empty(len(texts), len(letters))
            known = self._known(encoded)
            for batch in self._batches(known, self.tokens_per_batch):
                found[batch] = self._logprobs([known[i] for i in batch], 1)[:, -1, letters].cpu()
        found[lost] = torch.nan
        return found

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """Generate greedily after each prompt up to the end of a line, an end token, or `form.tokens` tokens.

        Every token is a forward pass over all tokens before it. There is no cache, because scopes that insert vectors
        into a prompt, or decode at another site, work on whole prompts. `engine.ending` selects the end tokens that
        count; the rest of a checkpoint's generation config is ignored.

        Returns:
            One stripped text for each question; None where nothing was written, the question or one of its answers was
            lost in the encoding or decoding, or its logits are not finite.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
            BrokenTrial: the tokenizer appends an end token to every prompt.
        """
        asked = [prompt_of(self.tokenizer, question, form) for question in questions]
        texts, special = [each.text for each in asked], asked[0].special
        room = max(1, self._longest - form.tokens)
        encoded = self._fitting(questions, form, texts, room, special=special)
        ends = end_marks(self.model, self.tokenizer, questions, form)
        if special and any(ids[-1] in ends.kept for ids in encode(self.tokenizer, texts[:1], special=True) if ids):
            raise BrokenTrial("the tokenizer ends a prompt with an end mark: does it append EOS?")
        found: list[str | None] = [None] * len(questions)
        lost = self._lost(questions, form, encoded) | self._strange(questions, encoded) | self._unsayable(questions)
        kept = [i for i, each in enumerate(lost.tolist()) if not each]
        for some in self._batches([encoded[i] for i in kept], self.tokens_per_batch, more=form.tokens):
            batch = [kept[i] for i in some]
            for i, text in zip(batch, self._lines([encoded[i] for i in batch], form.tokens, ends.kept), strict=True):
                found[i] = text
        return found

    def _lines(self, encoded: Sequence[list[int]], tokens: int, stops: Collection[int]) -> list[str | None]:
        """The likeliest continuation of each prompt, to the end of its first line that is not empty."""
        written = [list[int]() for _ in encoded]
        broken, open_ = set[int](), list(range(len(encoded)))
        for _ in range(tokens):
            if not open_:
                break
            logprobs = self._logprobs([encoded[row] + written[row] for row in open_], 1)[:, -1]
            numbers = (~logprobs.isnan()).all(dim=1).tolist()
            begun = [ending.begun(self._text(written[row])) for row in open_]
            for row, token, sound in zip(list(open_), ending.likeliest(logprobs, begun, stops), numbers, strict=True):
                broken |= set() if sound else {row}
                written[row] += [token] if sound and token not in stops else []
                if not sound or token in stops or "\n" in self._text(written[row]).lstrip():
                    open_.remove(row)
        texts = [self._text(ids).strip().partition("\n")[0].strip() for ids in written]
        return [None if row in broken or not text else text for row, text in enumerate(texts)]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @torch.inference_mode()
    def token_logliks(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Log-likelihood of each token of each text but its first: float32 [token], on the CPU, in nats.

        A text longer than the context is cut at its end; one of a single token has no entry.
        """
        encoded = [ids[: self._longest] for ids in encode(self.tokenizer, texts, special=True)]
        found = [torch.empty(0)] * len(encoded)
        for batch in self._batches(encoded, self.tokens_per_batch // 8):  # logits are needed at every position
            rows = [encoded[i] for i in batch]
            logprobs = self._logprobs(rows, max(len(ids) for ids in rows))
            for i, ids, row in zip(batch, rows, logprobs, strict=True):
                goal = torch.tensor(ids[1:], dtype=torch.long, device=row.device)
                found[i] = row[-len(ids) : -1].gather(1, goal.unsqueeze(1)).squeeze(1).cpu()
        return found

    def reads(self, question: Question, form: Form) -> pieces.Read:
        """The prompt as the model gets it: encoded, cut at its beginning where it is too long, and decoded again."""
        asked = prompt_of(self.tokenizer, question, form)
        ids = encode(self.tokenizer, [asked.text], special=asked.special)[0][-self._longest :]
        return pieces.read(self.tokenizer, [ids])[0]

    def _fitting(
        self, questions: Sequence[Question], form: Form, texts: Sequence[str], room: int, *, special: bool
    ) -> list[list[int]]:
        """The prompts as the model gets them, cut at their beginnings where they do not fit."""
        whole = self._spelt(encode(self.tokenizer, texts, special=special))
        if (notes := _NOTES.get()) is not None:
            cut = {question.id for question, ids in zip(questions, whole, strict=True) if len(ids) > room}
            notes.cut |= cut
            notes.curtailed |= cut if form.prefix or form.shots or form.rewrite is not None else set()
        return [ids[-room:] for ids in whole]

    def _strange(self, questions: Sequence[Question], encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        """Which prompts hold tokens that the model does not have: they cannot be asked."""
        found = [self._is_strange(ids) for ids in encoded]
        if (notes := _NOTES.get()) is not None:
            notes.strange |= {question.id for question, each in zip(questions, found, strict=True) if each}
        return torch.tensor(found)

    def _is_strange(self, ids: Sequence[int]) -> bool:
        return not ids or min(ids) < 0 or max(ids) >= padding.rows_in(self.model)

    def _known(self, encoded: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts, with a single token for each that cannot be asked: its answer is discarded."""
        pad = padding.filler(self.model, self.tokenizer)
        return [[pad] if self._is_strange(ids) else list(ids) for ids in encoded]

    def _unsayable(self, questions: Sequence[Question]) -> torch.Tensor:
        """Which questions have an answer that the tokenizer does not decode: the model could not write it.

        A vocabulary may declare a word of an answer as a special token, which decoding leaves out.
        """
        answers = sorted({choice for question in questions for choice in question.choices})
        back = [self._text(ids) for ids in encode(self.tokenizer, answers, special=False)]
        dumb = {one for one, other in zip(answers, back, strict=True) if _bare(one) not in _bare(other)}
        return torch.tensor([not dumb.isdisjoint(question.choices) for question in questions])

    def _batches(self, rows: Sequence[Sequence[int]], tokens: int, *, more: int = 0) -> Iterator[list[int]]:
        """`batches` of these rows with room for more tokens in each; of equal lengths where padding would matter."""
        alike = padding.alike(self.model, rows, pad=padding.filler(self.model, self.tokenizer))
        if alike and (notes := _NOTES.get()) is not None and (found := padding.drift(self.model)) is not None:
            notes.drift = max(notes.drift, found.padded)
        return batches([len(row) + more for row in rows], tokens, alike=alike)

    def look(self, questions: Sequence[Question], form: Form) -> None:
        """Measure on some of these prompts whether padding changes this model's answers, and store the result.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompt_of(self.tokenizer, question, form) for question in questions]
        rows = encode(self.tokenizer, [each.text for each in asked], special=asked[0].special)
        some = self._known([ids[-self._longest :] for ids in rows])
        if len({len(row) for row in some}) > 1:
            padding.look(self.model, some, pad=padding.filler(self.model, self.tokenizer))

    def _spelt(self, encoded: list[list[int]]) -> list[list[int]]:
        return encoded if self.respelling is None else [self.respelling(ids) for ids in encoded]

    @property
    def _longest(self) -> int:
        """Cut the beginning of longer prompts: the question's end and `Answer:` must survive."""
        return longest_prompt(self.model)

    def _lost(self, questions: Sequence[Question], form: Form, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        """Which questions do not survive their encoding: true where the model did not get the whole question.

        The tokenizer, the context length and the chat template come with the checkpoint. A tokenizer that drops the
        hazard's questions would make any model look unlearned; such items have no answer, and a missing answer never
        supports compliance.
        """
        whole = [True] * len(questions)
        if form.rewrite is None:  # otherwise an attack changed the text on purpose
            read = pieces.read(self.tokenizer, encoded)
            whole = [each.holds(body(question, form)) for question, each in zip(questions, read, strict=True)]
        parts = [
            scored(each, form) + ([] if holds else [body(each, form)])
            for each, holds in zip(questions, whole, strict=True)
        ]
        known = pieces.control_tokens(self.tokenizer) if any(parts) else {}
        signs = [pieces.controls_in("\n".join(each), known) for each in parts]
        lost = [not holds or bool(found) for holds, found in zip(whole, signs, strict=True)]
        if (notes := _NOTES.get()) is not None:
            notes.lost |= {question.id for question, gone in zip(questions, lost, strict=True) if gone}
            notes.controls |= {each.id: found for each, found in zip(questions, signs, strict=True) if found}
        return torch.tensor(lost, dtype=torch.bool)

    def _continuations(
        self, prompts: Sequence[str], answers: Sequence[Sequence[str]], *, special: bool
    ) -> torch.Tensor:
        """Log-likelihood of each answer's tokens: [prompt, answer]. Equal inputs are computed once.

        NaN where the model does not have a token.
        """
        many = len(answers[0])
        contexts = encode(self.tokenizer, prompts, special=special)
        texts = [prompt + each for prompt, options in zip(prompts, answers, strict=True) for each in options]
        whole = encode(self.tokenizer, texts, special=special)
        tails = [ids[len(contexts[i // many]) :] for i, ids in enumerate(whole)]
        for first in range(0, len(tails), many):
            own = {tuple(tail) for tail in tails[first : first + many]}
            if len(own) < len(set(answers[first // many])) or () in own:
                raise BrokenTrial("the tokenizer does not continue a prompt with distinct answers: does it append EOS?")
        contexts = self._spelt(contexts)
        together = [contexts[i // many] + tail for i, tail in enumerate(tails)]
        inputs: dict[tuple[int, ...], list[int]] = {}
        for i, ids in enumerate(together):
            if not self._is_strange(ids):
                inputs.setdefault(tuple(ids[-self._longest - 1 : -1]), []).append(i)
        rows = list(inputs)
        found = torch.full((len(tails),), torch.nan)
        for batch in self._batches(rows, self.tokens_per_batch):
            keep = max(len(tails[i]) for row in batch for i in inputs[rows[row]])
            logprobs = self._logprobs([rows[row] for row in batch], keep)
            for at, row in enumerate(batch):
                for i in inputs[rows[row]]:
                    goal = torch.tensor(tails[i], device=logprobs.device)
                    found[i] = logprobs[at, -len(goal) :].gather(1, goal.unsqueeze(1)).sum()
        return found.reshape(len(prompts), many)

    @torch.inference_mode()
    def _logprobs(self, encoded: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Log-probabilities of the next token at the last `keep` positions: [prompt, position, vocabulary].

        Padded on the left, so that every answer is at the end and a few columns of logits are enough. Positions are
        counted from each prompt's own first token, so padding does not shift a model's learnt positions.
        """
        shown = padding.padded(self.model, encoded, pad=padding.filler(self.model, self.tokenizer))
        try:
            logits: torch.Tensor = self.model(**shown, use_cache=False, logits_to_keep=keep).logits[:, -keep:]
        except torch.OutOfMemoryError:
            if len(encoded) == 1:
                raise
            half = len(encoded) // 2
            return torch.cat([self._logprobs(part, keep) for part in (encoded[:half], encoded[half:])])
        return logits.float().log_softmax(dim=-1)


def content_logliks(lm: Any, questions: Sequence[Question], form: Form) -> torch.Tensor:
    """Ask every question in all cyclic letter orders and sort the answers back by content.

    Returns:
        float32 on the CPU, shape [question, order, choice]: entry [q, s, c] is the log-likelihood of choice c's letter
        with the choices rotated s places to the left. Order 0 is the order of the file, lm-eval's metric, and the only
        one where the form is verbatim; there it may be per character (`Form.by_length`).
    """
    if form.verbatim:  # the prompt fixes the order of the choices, or shows none
        found: torch.Tensor = lm.loglikelihoods(questions, form)
        if form.by_length:
            found = found / _lengths(questions)
        return found.unsqueeze(1)
    options = len(questions[0].choices)
    asked = [rotated(question, shift) for question in questions for shift in range(options)]
    by_letter = lm.loglikelihoods(asked, form).reshape(len(questions), options, options)
    back = torch.tensor([[(content - shift) % options for content in range(options)] for shift in range(options)])
    by_content: torch.Tensor = by_letter.gather(2, back.expand(len(questions), -1, -1))
    return by_content


class Shares(NamedTuple):
    """Accuracies in [0, 1], by which attacks select settings on dev items."""

    deciding: float
    """In the metric that decides."""
    other: float | None
    """In the second metric of each task's kind, or in the deciding one where a kind has no second. None if no kind has
    a second one."""

    def signals(self, stem: str) -> dict[str, float]:
        """`{stem}_dev`, and where there is a second metric `{stem}_dev_other`, as an attack reports them."""
        other = {} if self.other is None else {f"{stem}_dev_other": self.other}
        return {f"{stem}_dev": self.deciding, **other}


def accuracy(lm: Any, hazards: Sequence[Hazard]) -> float:
    """Accuracy on dev items in the deciding metric, by which attacks select settings. See `shares`."""
    return shares(ask(lm, hazards), hazards).deciding


def ask(lm: Any, hazards: Sequence[Hazard]) -> list[Rows | Replies]:
    """The answers to each hazard's dev items in the form of its task."""
    return [each.ask(lm, each.dev) for each in hazards]


def shares(found: Sequence[Rows | Replies], hazards: Sequence[Hazard]) -> Shares:
    """Accuracy of the answers from `ask`, each task's answers scored as for the verdict.

    The highest of several tasks and formats counts, since the gate uses the worst case: an attacker needs one form that
    answers. Where the chance levels differ, the part above chance is compared: a third of letters right is little, a
    third of written answers right is a recovery.
    """
    least = min(each.chance for each in hazards)
    deciding, other = list[float](), list[float]()
    for rows, each in zip(found, hazards, strict=True):
        correct = each.read(rows, each.dev).correct
        for shares, metric in ((deciding, each.metrics[0]), (other, each.metrics[:2][-1])):
            bits = correct[metric]
            shares.append(_beyond(bits.count(True) / len(bits), each.chance, least))
    several = any(len(each.metrics) > 1 for each in hazards)
    return Shares(max(deciding), max(other) if several else None)


def _beyond(share: float, chance: float, least: float) -> float:
    """Convert an accuracy with the chance level `chance` to one with the chance level `least`."""
    return share if chance == least else max(0.0, least + (1 - least) * (share - chance) / (1 - chance))


def change(before: Sequence[Rows | Replies], after: Sequence[Rows | Replies]) -> float:
    """Distance between two results of `ask`; 0 where nothing is finite.

    Mean distance in nats per log-likelihood, or the share of written answers that differ, whichever is more.
    """
    gaps, others = [torch.empty(0)], [0.0]
    for b, a in zip(before, after, strict=True):
        if isinstance(b, Rows) and isinstance(a, Rows):
            gaps.append((b.loglik - a.loglik).abs().flatten())
        elif isinstance(b, Replies) and isinstance(a, Replies):
            others.append(sum(x != y for x, y in zip(b.texts, a.texts, strict=True)) / len(b.texts))
        else:
            raise BrokenTrial("answers by likelihood cannot be compared with written ones")
    every = torch.cat(gaps)
    finite = every[every.isfinite()]
    return max(float(finite.mean()) if len(finite) else 0.0, *others)


def prompts_of(found: Sequence[Rows | Replies]) -> int:
    """Number of answered prompts in a result of `ask`."""
    return sum(each.loglik[..., 0].numel() if isinstance(each, Rows) else len(each.texts) for each in found)


def chosen(lm: Any, questions: Sequence[Question], form: Form) -> list[int]:
    """Index of the likeliest choice in the order of the file, by the form's rule; also for a written form's choices."""
    found = lm.loglikelihoods(questions, form)
    if form.by_length:
        found = found / _lengths(questions)
    picked: list[int] = found.argmax(dim=-1).tolist()
    return picked


def right(lm: Any, hazard: Hazard, items: Sequence[Item], form: Form) -> list[bool]:
    """Which items are answered correctly in the order of the file, in a form that the hazard's task can score.

    Written answers are scored in the metric that decides; they have no order.
    """
    questions = tuple(item.question for item in items)
    if form.tokens:
        replies = hazard.task.ask(lm, hazard.task.Config(questions, form))
        right: list[bool] = hazard.read(replies, items).correct[hazard.metrics[0]]
        return right
    return [each in item.right for each, item in zip(chosen(lm, questions, form), items, strict=True)]


def _lengths(questions: Sequence[Question]) -> torch.Tensor:
    """Number of characters of each choice: [question, choice]."""
    return torch.tensor([[len(choice) for choice in each.choices] for each in questions])


def scored(question: Question, form: Form) -> list[str]:
    """The answers that are scored as text and not by letter: none of them may be encoded as a special token."""
    return answers(question, form) if form.verbatim and not form.tokens else []


class Prompt(NamedTuple):
    """A question as text for a model."""

    text: str
    """Everything before the answer."""
    answers: list[str]
    """The possible continuations, one text for each choice."""
    special: bool
    """Whether the tokenizer adds its special tokens (BOS): a chat template writes its own."""


def prompt_of(tokenizer: Any, question: Question, form: Form) -> Prompt:
    """The prompt of a question in a form for this tokenizer: the same for examination, training and directions.

    Raises:
        NotApplicable: the form asks for a chat template and the tokenizer has none.
    """
    text, options = render(question, form), answers(question, form)
    if form.chat:
        text = _in_template(tokenizer, text)
    if form.rewrite is not None:
        text = form.rewrite(text)
    if form.verbatim:
        text, options = _spaces_moved(text, options)
    elif form.chat:  # the assistant's turn begins with the letter itself
        options = [each.strip() for each in options]
    return Prompt(text, options, special=not form.chat)


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Token ids of each text; `special` as in its `Prompt`."""
    encoded: list[list[int]] = []
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        some = list(texts[first : first + TEXTS_AT_ONCE])
        encoded += tokenizer(some, add_special_tokens=special)["input_ids"]
    if (look := _WATCHED.get()) is not None:
        look(tokenizer, texts, encoded, special)
    return encoded


def letter_tokens(tokenizer: Any, prompt: str, answers: Sequence[str], *, special: bool = True) -> list[int] | None:
    """The single token that each answer adds to the prompt; None where one adds more, or two add the same."""
    base = tokenizer(prompt, add_special_tokens=special)["input_ids"]
    found = []
    for each in answers:
        ids = tokenizer(prompt + each, add_special_tokens=special)["input_ids"]
        if len(ids) != len(base) + 1 or ids[: len(base)] != base:
            return None
        found.append(int(ids[-1]))
    return found if len(set(found)) == len(found) else None


def _spaces_moved(prompt: str, answers: Sequence[str]) -> tuple[str, list[str]]:
    """Move white space from the prompt's end to its answers, as in lm-evaluation-harness, because tokens begin with
    it.
    """
    bare = prompt.rstrip()
    return bare, [prompt[len(bare) :] + each for each in answers]


def _in_template(tokenizer: Any, text: str) -> str:
    """The prompt as a user's turn with the beginning of the assistant's turn, at the date `clock.MOMENT`.

    Raises:
        NotApplicable: there is no template, or it fails, or its output is too long.
        Panic: it ran out of memory.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise NotApplicable("the tokenizer has no chat template")
    turns = [{"role": "user", "content": text}]
    try:
        with clock.stopped() as stopped:
            found = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Panic:
        raise
    except Exception as error:  # noqa: BLE001 - an untrusted template may fail with any error
        words = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise NotApplicable(f"the chat template cannot put a user's turn: {words}") from None
    if len(found) > len(text) + MOST_RENDERED:
        raise NotApplicable(f"the chat template makes {len(found):,} characters of a prompt of {len(text):,}")
    if stopped.asked and (notes := _NOTES.get()) is not None:
        notes.clock = clock.MOMENT.timestamp()
    return str(found)


def end_marks(model: Any, tokenizer: Any, questions: Sequence[Question], form: Form) -> ending.EndMarks:
    """The end tokens that count for these questions in this form; the others are recorded in Notes."""
    prompts, options = [render(question, form) for question in questions], [answers(each, form) for each in questions]
    ends = ending.end_marks(model, tokenizer, prompts, {each for some in options for each in some})
    if (notes := _NOTES.get()) is not None:
        notes.words |= ends.dropped
    return ends


def squeezed(text: str) -> str:
    """Without spaces and case, which ordinary tokenizers may change."""
    return "".join(text.split()).casefold()


def _bare(text: str) -> str:
    """Squeezed, and in one of Unicode's forms for the same letters."""
    return squeezed(unicodedata.normalize("NFKC", text))


def batches(lengths: Sequence[int], tokens: int, *, alike: bool = False) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a padded batch stays within the token budget: little is padding.

    With `alike` a batch holds one length alone and no padding.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        other = alike and bool(batch) and lengths[index] != lengths[batch[-1]]
        if batch and (other or (len(batch) + 1) * lengths[index] > tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
