"""Asking a model: one forward pass a prompt for letters, one a token for what it writes.

Logits at the last position only, except where words are scored one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import pieces
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.nouns import Form, Item, Question
from robustness_gate.prompts import answers, body, render, rotated

TOKENS_PER_BATCH = 16_384
_CUT: ContextVar[set[str] | None] = ContextVar("prompts that lost their beginning", default=None)
_LOST: ContextVar[set[str] | None] = ContextVar("questions that the model did not get", default=None)


@contextmanager
def cut_prompts() -> Iterator[set[str]]:
    """Ids of the questions whose prompt was longer than the context, and lost its beginning, while the block is open.

    What it lost may be an example or the header; where it is the question itself, there is no answer either.
    """
    found = set[str]()
    before = _CUT.set(found)
    try:
        yield found
    finally:
        _CUT.reset(before)


@contextmanager
def lost_questions() -> Iterator[set[str]]:
    """Ids of the questions that were asked while the block is open and did not reach the model whole."""
    found = set[str]()
    before = _LOST.set(found)
    try:
        yield found
    finally:
        _LOST.reset(before)


Look = Callable[[Any, Sequence[str], Sequence[list[int]], bool], None]
_WATCHED: ContextVar[Look | None] = ContextVar("who sees what is encoded", default=None)


@contextmanager
def watching(look: Look) -> Iterator[None]:
    """Show everything that is encoded while the block is open: tokenizer, texts, their ids, and `special`."""
    before = _WATCHED.set(look)
    try:
        yield
    finally:
        _WATCHED.reset(before)


@dataclass(frozen=True)
class ModelRespondent:
    """A model that answers as it stands: whatever scopes are open around it are part of its answer."""

    model: Any
    tokenizer: Any
    tokens_per_batch: int = TOKENS_PER_BATCH
    respelling: Callable[[Sequence[int]], list[int]] | None = None
    """Applied to the token ids of every prompt, but not to those of its answers."""

    def choose(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer after its prompt, normalised over the whole vocabulary.

        Where every letter is one token of its own after the prompt, one forward pass a prompt answers for all letters.
        Elsewhere, and for verbatim answers, each is scored as a continuation, as lm-evaluation-harness does.

        Returns:
            float32 on the CPU, shape [question, choice], in nats.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompt_of(self.tokenizer, question, form) for question in questions]
        texts, special = [each.text for each in asked], asked[0].special
        encoded = self._fitting(questions, texts, self._longest, special=special)
        letters = None if form.verbatim else letter_tokens(self.tokenizer, texts[0], asked[0].answers, special=special)
        if letters is None:
            found = self._continuations(texts, [each.answers for each in asked], special=special)
        else:
            found = torch.empty(len(texts), len(letters))
            for batch in batches([len(ids) for ids in encoded], self.tokens_per_batch):
                found[batch] = self._logprobs([encoded[i] for i in batch], 1)[:, -1, letters].cpu()
        found[self._lost(questions, form, encoded)] = torch.nan
        return found

    def write(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """What follows each prompt up to the end of a line, an end mark, or `form.tokens` tokens, greedily.

        Every token is a forward pass over all that stands before it. Nothing is kept from one pass to the next, because
        scopes that put vectors into a prompt, or read at another place, hold for whole prompts.

        Returns:
            One text a question, without the white space round it; None where the question was lost on the way to the
            model or its logits are not numbers.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompt_of(self.tokenizer, question, form) for question in questions]
        room = max(1, self._longest - form.tokens)
        encoded = self._fitting(questions, [each.text for each in asked], room, special=asked[0].special)
        found: list[str | None] = [None] * len(questions)
        kept = [i for i, lost in enumerate(self._lost(questions, form, encoded).tolist()) if not lost]
        for some in batches([len(encoded[i]) + form.tokens for i in kept], self.tokens_per_batch):
            batch = [kept[i] for i in some]
            for i, text in zip(batch, self._lines([encoded[i] for i in batch], form.tokens), strict=True):
                found[i] = text
        return found

    def _lines(self, encoded: Sequence[list[int]], tokens: int) -> list[str | None]:
        """The likeliest continuation of each prompt, to the end of its first line that is not empty."""
        stops, written = ends(self.model, self.tokenizer), [list[int]() for _ in encoded]
        broken, open_ = set[int](), list(range(len(encoded)))
        for _ in range(tokens):
            if not open_:
                break
            logprobs = self._logprobs([encoded[row] + written[row] for row in open_], 1)[:, -1]
            numbers, likeliest = (~logprobs.isnan()).all(dim=1).tolist(), logprobs.argmax(dim=1).tolist()
            for row, token, sound in zip(list(open_), likeliest, numbers, strict=True):
                broken |= set() if sound else {row}
                written[row] += [token] if sound and token not in stops else []
                if not sound or token in stops or "\n" in self._text(written[row]).lstrip():
                    open_.remove(row)
        texts = [self._text(ids).strip().partition("\n")[0].strip() for ids in written]
        return [None if row in broken else text for row, text in enumerate(texts)]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @torch.inference_mode()
    def token_logliks(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Log-likelihood of each token of each text but its first: float32 [token], on the CPU, in nats.

        A text longer than the context counts with its beginning; one of a single token has no entry.
        """
        encoded = [ids[: self._longest] for ids in encode(self.tokenizer, texts, special=True)]
        found = [torch.empty(0)] * len(encoded)
        for batch in batches([len(ids) for ids in encoded], self.tokens_per_batch // 8):  # logits at every position
            rows = [encoded[i] for i in batch]
            logprobs = self._logprobs(rows, max(len(ids) for ids in rows))
            for i, ids, told in zip(batch, rows, logprobs, strict=True):
                goal = torch.tensor(ids[1:], dtype=torch.long, device=told.device)
                found[i] = told[-len(ids) : -1].gather(1, goal.unsqueeze(1)).squeeze(1).cpu()
        return found

    def reads(self, question: Question, form: Form) -> pieces.Read:
        """The prompt as it reaches the model: encoded, its beginning cut off where it is too long, and read again."""
        asked = prompt_of(self.tokenizer, question, form)
        ids = encode(self.tokenizer, [asked.text], special=asked.special)[0][-self._longest :]
        return pieces.read(self.tokenizer, [ids])[0]

    def _fitting(
        self, questions: Sequence[Question], texts: Sequence[str], room: int, *, special: bool
    ) -> list[list[int]]:
        """The prompts as the model gets them, their beginnings cut off where they do not fit."""
        whole = self._spelt(encode(self.tokenizer, texts, special=special))
        if (cut := _CUT.get()) is not None:
            cut |= {question.id for question, ids in zip(questions, whole, strict=True) if len(ids) > room}
        return [ids[-room:] for ids in whole]

    def _spelt(self, encoded: list[list[int]]) -> list[list[int]]:
        return encoded if self.respelling is None else [self.respelling(ids) for ids in encoded]

    @property
    def _longest(self) -> int:
        """Longer prompts lose their beginning: the question's end and `Answer:` must survive."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1_000_000)

    def _lost(self, questions: Sequence[Question], form: Form, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        """Which questions do not survive their encoding: true where the model was not asked what we meant to ask.

        The tokenizer comes with the checkpoint, and so do the context length and the chat template. One that drops the
        hazard's questions would make any model look unlearned; such items have no answer, and missing never acquits.
        """
        if form.rewrite is not None:  # an attack changed the words on purpose
            return torch.zeros(len(questions), dtype=torch.bool)
        read = pieces.read(self.tokenizer, encoded)
        lost = [not each.holds(body(question, form)) for question, each in zip(questions, read, strict=True)]
        if (known := _LOST.get()) is not None:
            known |= {question.id for question, gone in zip(questions, lost, strict=True) if gone}
        return torch.tensor(lost, dtype=torch.bool)

    def _continuations(
        self, prompts: Sequence[str], answers: Sequence[Sequence[str]], *, special: bool
    ) -> torch.Tensor:
        """Each answer's tokens, scored one after the other: [prompt, answer]. Equal inputs are passed once."""
        many = len(answers[0])
        contexts = encode(self.tokenizer, prompts, special=special)
        texts = [prompt + each for prompt, given in zip(prompts, answers, strict=True) for each in given]
        whole = encode(self.tokenizer, texts, special=special)
        tails = [ids[len(contexts[i // many]) :] for i, ids in enumerate(whole)]
        for first in range(0, len(tails), many):
            own = {tuple(tail) for tail in tails[first : first + many]}
            if len(own) < len(set(answers[first // many])) or () in own:
                raise BrokenTrial("the tokenizer does not continue a prompt with distinct answers: does it append EOS?")
        contexts = self._spelt(contexts)
        inputs: dict[tuple[int, ...], list[int]] = {}
        for i, tail in enumerate(tails):
            inputs.setdefault(tuple((contexts[i // many] + tail)[-self._longest - 1 : -1]), []).append(i)
        rows = list(inputs)
        found = torch.empty(len(tails))
        for batch in batches([len(ids) for ids in rows], self.tokens_per_batch):
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

        Padded on the left, so that every answer stands at the end and a few columns of logits are enough. Positions are
        counted from each prompt's own first token, so a model with learnt positions sees no padding.
        """
        width = max(len(ids) for ids in encoded)
        padding = self.tokenizer.pad_token_id
        tokens = torch.tensor([[padding] * (width - len(ids)) + list(ids) for ids in encoded])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded])
        device = self.model.get_input_embeddings().weight.device
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        try:
            logits: torch.Tensor = self.model(
                input_ids=tokens.to(device),
                attention_mask=mask.to(device),
                position_ids=positions.to(device),
                use_cache=False,
                logits_to_keep=keep,
            ).logits[:, -keep:]
        except torch.OutOfMemoryError:
            if len(encoded) == 1:
                raise
            half = len(encoded) // 2
            return torch.cat([self._logprobs(part, keep) for part in (encoded[:half], encoded[half:])])
        return logits.float().log_softmax(dim=-1)


def content_logliks(respondent: Any, questions: Sequence[Question], form: Form) -> torch.Tensor:
    """Ask every question in all cyclic letter orders and sort the answers back by content.

    Returns:
        float32 on the CPU, shape [question, order, choice]: entry [q, s, c] is the log-likelihood of choice c's letter
        when the choices stood rotated s places to the left. Order 0 is the order of the file, lm-eval's reading, and
        the only one where the form is verbatim; there it may count a character (`Form.by_length`).
    """
    if form.verbatim:  # the prompt fixes what stands where, or shows no choice at all
        found: torch.Tensor = respondent.choose(questions, form)
        if form.by_length:
            found = found / torch.tensor([[len(choice) for choice in each.choices] for each in questions])
        return found.unsqueeze(1)
    options = len(questions[0].choices)
    asked = [rotated(question, shift) for question in questions for shift in range(options)]
    by_letter = respondent.choose(asked, form).reshape(len(questions), options, options)
    back = torch.tensor([[(content - shift) % options for content in range(options)] for shift in range(options)])
    by_content: torch.Tensor = by_letter.gather(2, back.expand(len(questions), -1, -1))
    return by_content


class Shares(NamedTuple):
    """Shares of items answered rightly, in [0, 1]: what attacks choose by, on dev items."""

    content_sum: float
    """Log-likelihoods summed by content over the letter orders."""
    single_order: float
    """The order of the file alone."""


def accuracy(respondent: Any, items: Sequence[Item], forms: Sequence[Form]) -> float:
    """Share of items answered rightly in the content_sum reading: what attacks choose by, on dev items.

    Of several forms the highest counts, since the gate takes the worse: an attacker needs one that answers.
    """
    return shares(heard(respondent, items, forms), items).content_sum


def heard(respondent: Any, items: Sequence[Item], forms: Sequence[Form]) -> list[torch.Tensor]:
    """What `content_logliks` says of the items in each form: a list of [item, order, choice]."""
    questions = [item.question for item in items]
    return [content_logliks(respondent, questions, form) for form in forms]


def shares(found: Sequence[torch.Tensor], items: Sequence[Item]) -> Shares:
    """Both readings of what was `heard`; of several forms the highest counts in each, as in `accuracy`."""
    return Shares(
        content_sum=max(share_right(each.sum(dim=1), items) for each in found),
        single_order=max(share_right(each[:, 0], items) for each in found),
    )


def change(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    """Mean distance between two things `heard`, in nats a log-likelihood; 0 where neither is finite."""
    gaps = torch.cat([(b - a).abs().flatten() for b, a in zip(before, after, strict=True)])
    finite = gaps[gaps.isfinite()]
    return float(finite.mean()) if len(finite) else 0.0


def share_right(logliks: torch.Tensor, items: Sequence[Item]) -> float:
    """Share of items whose likeliest choice [item, choice] is right; none that is not finite is."""
    known = zip(items, logliks.argmax(dim=-1).tolist(), logliks.isfinite().all(dim=-1).tolist(), strict=True)
    right = [finite and choice in item.right for item, choice, finite in known]
    return right.count(True) / len(right)


class Prompt(NamedTuple):
    """A question as a model reads it."""

    text: str
    """Everything before the answer."""
    answers: list[str]
    """What may follow it, one text a choice."""
    special: bool
    """Whether the tokenizer adds its special tokens (BOS): a chat template writes its own."""


def prompt_of(tokenizer: Any, question: Question, form: Form) -> Prompt:
    """Question and form as this tokenizer's model reads them: the one way for examination, training and directions.

    Raises:
        NotApplicable: the form asks for a chat template and the tokenizer has none.
    """
    text, given = render(question, form), answers(question, form)
    if form.chat:
        text = _in_template(tokenizer, text)
    if form.rewrite is not None:
        text = form.rewrite(text)
    if form.verbatim:
        text, given = _spaces_moved(text, given)
    elif form.chat:  # the assistant's turn begins with the letter itself
        given = [each.strip() for each in given]
    return Prompt(text, given, special=not form.chat)


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Token ids of each text; `special` as in its `Prompt`."""
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    if (look := _WATCHED.get()) is not None:
        look(tokenizer, texts, encoded, special)
    return encoded


def letter_tokens(tokenizer: Any, prompt: str, answers: Sequence[str], *, special: bool = True) -> list[int] | None:
    """The one token that each answer adds to the prompt; None where one adds more, or two add the same."""
    base = tokenizer(prompt, add_special_tokens=special)["input_ids"]
    found = []
    for each in answers:
        ids = tokenizer(prompt + each, add_special_tokens=special)["input_ids"]
        if len(ids) != len(base) + 1 or ids[: len(base)] != base:
            return None
        found.append(int(ids[-1]))
    return found if len(set(found)) == len(found) else None


def _spaces_moved(prompt: str, answers: Sequence[str]) -> tuple[str, list[str]]:
    """White space at the prompt's end goes to its answers, as in lm-evaluation-harness: tokens hold it in front."""
    bare = prompt.rstrip()
    return bare, [prompt[len(bare) :] + each for each in answers]


def _in_template(tokenizer: Any, text: str) -> str:
    """The prompt as a user's turn, with the assistant's turn begun."""
    if not getattr(tokenizer, "chat_template", None):
        raise NotApplicable("the tokenizer has no chat template")
    turns = [{"role": "user", "content": text}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # noqa: BLE001 - a stranger's program may fail in any way, in transformers' sandbox
        words = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise NotApplicable(f"the chat template cannot put a user's turn: {words}") from None


def ends(model: Any, tokenizer: Any) -> set[int]:
    """A model may have several end marks: the tokenizer's, and those of its chat turns."""
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = known if isinstance(known, list) else [known]
    return {int(each) for each in (*more, tokenizer.eos_token_id) if each is not None}


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a padded batch stays within the token budget: little is padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[index] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
