"""Ask a model: one forward pass for each prompt with letters, one for each generated token.

Logits are taken at the last position only, except where continuations are scored. Prompts of unequal length share a
batch where padding does not change this model's answers (`engine.padding`). `engine.prompting` makes the prompts,
`engine.events` records what happens to them on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from robustness_gate.engine import encodings, ending, events, hooks, padding, pieces, prompting, shared
from robustness_gate.engine.batching import batches as batches
from robustness_gate.engine.batching import halved
from robustness_gate.engine.context import longest_prompt
from robustness_gate.errors import BrokenTrial
from robustness_gate.inputs.prompts import body, rotated
from robustness_gate.records.questions import Form, Question

TOKENS_PER_BATCH = 16_384


@dataclass(frozen=True)
class ModelLM:
    """The LM of a model in its present state: scopes that are open around it affect its answers."""

    model: Any
    tokenizer: Any
    tokens_per_batch: int = TOKENS_PER_BATCH
    respelling: Callable[[Sequence[int]], list[int]] | None = None
    """Applied to the token ids of every prompt, but not to those of its answers."""
    whole: bool = False
    """Ask in whole passes, also where reading in parts is exact (`engine.shared`)."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer after its prompt, normalised over the whole vocabulary.

        Where every letter is one distinct token after the prompt, one forward pass scores all letters. Otherwise, and
        for verbatim answers, each is scored as a continuation, as in lm-evaluation-harness.

        Returns:
            float32 on the CPU, shape [question, choice], in nats.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompting.prompt_of(self.tokenizer, question, form) for question in questions]
        texts, special = [each.text for each in asked], asked[0].special
        encoded = self._fitting(questions, form, texts, self._longest, special=special)
        lost = self._lost(questions, form, encoded) | self._strange(questions, encoded)
        letters = (
            None
            if form.verbatim
            else prompting.letter_tokens(self.tokenizer, texts[0], asked[0].answers, special=special)
        )
        if letters is None:
            found = self._continuations(texts, [each.answers for each in asked], special=special, margin=form.by_margin)
        else:
            padding.refuse_strangers(self.model, [letters])
            found = torch.full((len(texts), len(letters)), torch.nan)
            for batch, logprobs in self._endings(encoded, [1] * len(encoded)):
                found[batch] = logprobs[:, -1, letters].cpu()
        found[lost] = torch.nan
        return found

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """Generate greedily after each prompt up to the end of a line, an end token, or `form.tokens` tokens.

        Every token is read behind the kept keys and values of those before it where that is exact (`engine.shared`),
        else with all of them. `engine.ending` selects the end tokens that count; the rest of a checkpoint's generation
        config is ignored.

        Returns:
            One stripped text for each question; None where nothing was written, the question or one of its answers was
            lost in the encoding or decoding, or its logits are not finite.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
            BrokenTrial: the tokenizer appends an end token to every prompt.
        """
        asked = [prompting.prompt_of(self.tokenizer, question, form) for question in questions]
        texts, special = [each.text for each in asked], asked[0].special
        room = max(1, self._longest - form.tokens)
        encoded = self._fitting(questions, form, texts, room, special=special)
        ends = prompting.end_marks(self.model, self.tokenizer, questions, form)
        if special and any(
            ids[-1] in ends.kept for ids in prompting.encode(self.tokenizer, texts[:1], special=True) if ids
        ):
            raise BrokenTrial("the tokenizer ends a prompt with an end mark: does it append EOS?")
        lost = self._lost(questions, form, encoded) | self._strange(questions, encoded) | self._unsayable(questions)
        kept = [i for i, each in enumerate(lost.tolist()) if not each]
        found: list[str | None] = [None] * len(questions)
        for i, text in self._texts({i: encoded[i] for i in kept}, form.tokens, ends.kept):
            found[i] = text
        return found

    def _texts(
        self, encoded: Mapping[int, list[int]], tokens: int, stops: Collection[int]
    ) -> Iterator[tuple[int, str | None]]:
        """What is written after each prompt, by its number."""
        numbers, rows = list(encoded), list(encoded.values())
        placed = self._placed(rows)
        lengths = [len(ids) + tokens for ids in placed]
        behind = self._in_parts(placed, max(lengths, default=0))
        most = shared.most_rows(self.model, max(lengths)) if behind else None
        write = partial(self._lines, tokens=tokens, stops=stops, behind=behind)
        for batch in batches(lengths, self.tokens_per_batch, alike=self._alike(rows), rows=most):
            done = [text for _, texts in halved(write, [rows[i] for i in batch]) for text in texts]
            yield from zip((numbers[i] for i in batch), done, strict=True)

    @torch.inference_mode()
    def _lines(
        self, encoded: Sequence[list[int]], tokens: int, stops: Collection[int], *, behind: bool
    ) -> list[str | None]:
        """The likeliest continuation of each prompt, to the end of its first line that is not empty.

        `behind`: each token is read behind the kept keys and values of those before it, else all are read again.
        """
        written = [list[int]() for _ in encoded]
        broken, open_ = set[int](), list(range(len(encoded)))
        state, held = None, open_
        for _ in range(tokens):
            if not open_:
                break
            if not behind:
                logprobs = self._logprobs([encoded[row] + written[row] for row in open_], 1)
            elif state is None:
                logprobs, state = shared.started(self.model, self._placed(encoded), pad=self._pad)
            else:
                state = shared.selected(state, [held.index(row) for row in open_]) if held != open_ else state
                logprobs, state = shared.read(self.model, state, [written[row][-1:] for row in open_], pad=self._pad)
            held, last = list(open_), logprobs[:, -1]
            numbers = (~last.isnan()).all(dim=1).tolist()
            begun = [ending.begun(self._text(written[row])) for row in open_]
            for row, token, sound in zip(held, ending.likeliest(last, begun, stops), numbers, strict=True):
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
        encoded = [ids[: self._longest] for ids in prompting.encode(self.tokenizer, texts, special=True)]
        found = [torch.empty(0)] * len(encoded)
        lengths, few = [len(ids) for ids in encoded], self.tokens_per_batch // 8  # logits are needed at every position
        for batch in batches(lengths, few, alike=self._alike(encoded)):
            rows = [encoded[i] for i in batch]
            logprobs = self._logprobs(rows, max(len(ids) for ids in rows))
            for i, ids, row in zip(batch, rows, logprobs, strict=True):
                goal = torch.tensor(ids[1:], dtype=torch.long, device=row.device)
                found[i] = row[-len(ids) : -1].gather(1, goal.unsqueeze(1)).squeeze(1).cpu()
        return found

    def reads(self, question: Question, form: Form) -> pieces.Read:
        """The prompt as the model gets it: encoded, cut at its beginning where it is too long, and decoded again."""
        asked = prompting.prompt_of(self.tokenizer, question, form)
        ids = prompting.encode(self.tokenizer, [asked.text], special=asked.special)[0][-self._longest :]
        return pieces.read(self.tokenizer, [ids])[0]

    def _fitting(
        self, questions: Sequence[Question], form: Form, texts: Sequence[str], room: int, *, special: bool
    ) -> list[list[int]]:
        """The prompts as the model gets them, cut at their beginnings where they do not fit."""
        whole = self._spelt(encodings.encode(self.tokenizer, texts, special=special))
        if (notes := events.NOTES.get()) is not None:
            cut = {question.id for question, ids in zip(questions, whole, strict=True) if len(ids) > room}
            notes.cut |= cut
            notes.curtailed |= cut if form.prefix or form.shots or form.rewrite is not None else set()
        return [ids[-room:] for ids in whole]

    def _strange(self, questions: Sequence[Question], encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        """Which prompts hold tokens that the model does not have: they cannot be asked."""
        found = [self._is_strange(ids) for ids in encoded]
        if (notes := events.NOTES.get()) is not None:
            notes.strange |= {question.id for question, each in zip(questions, found, strict=True) if each}
        return torch.tensor(found)

    def _is_strange(self, ids: Sequence[int]) -> bool:
        return not ids or min(ids) < 0 or max(ids) >= padding.rows_in(self.model)

    def _known(self, encoded: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts, with a single token for each that cannot be asked: its answer is discarded."""
        return [[self._pad] if self._is_strange(ids) else list(ids) for ids in encoded]

    def _unsayable(self, questions: Sequence[Question]) -> torch.Tensor:
        """Which questions have an answer that the tokenizer does not decode: the model could not write it.

        A vocabulary may declare a word of an answer as a special token, which decoding leaves out.
        """
        answers = sorted({choice for question in questions for choice in question.choices})
        back = [self._text(ids) for ids in prompting.encode(self.tokenizer, answers, special=False)]
        dumb = {
            one for one, other in zip(answers, back, strict=True) if prompting.bare(one) not in prompting.bare(other)
        }
        return torch.tensor([not dumb.isdisjoint(question.choices) for question in questions])

    def _alike(self, rows: Sequence[Sequence[int]]) -> bool:
        """Whether rows of unequal length must not share a batch; noted where they must not."""
        alike = padding.alike(self.model, rows, pad=self._pad)
        found, notes = padding.drift(self.model), events.NOTES.get()
        if alike and notes is not None and found is not None and found.matters:  # else rows are longer than is measured
            notes.drift = max(notes.drift, found.padded)
        return alike

    def look(self, questions: Sequence[Question], form: Form) -> None:
        """Measure on some of these prompts whether padding, or reading in parts, changes this model's answers.

        Raises:
            NotApplicable: the form asks for a chat template and the tokenizer has none.
        """
        asked = [prompting.prompt_of(self.tokenizer, question, form) for question in questions]
        rows = prompting.encode(self.tokenizer, [each.text for each in asked], special=asked[0].special)
        some = self._known([ids[-self._longest :] for ids in rows])
        if len({len(row) for row in some}) > 1:
            padding.look(self.model, some, pad=self._pad)
        if isinstance(self.model, torch.nn.Module) and hooks.are_tokenwise(self.model):
            shared.look(self.model, some, pad=self._pad)

    def _spelt(self, encoded: list[list[int]]) -> list[list[int]]:
        return encoded if self.respelling is None else [self.respelling(ids) for ids in encoded]

    @property
    def _pad(self) -> int:
        return padding.filler(self.model, self.tokenizer)

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
        bodies = [body(question, form) for question in questions]
        answers = [prompting.scored(each, form) for each in questions]
        whole = form.rewrite is None  # otherwise an attack changed the text on purpose

        def check() -> tuple[list[bool], list[frozenset[int]]]:
            holds = [True] * len(bodies)
            if whole:
                read = pieces.read(self.tokenizer, encoded)
                holds = [each.holds(text) for text, each in zip(bodies, read, strict=True)]
            parts = [own + ([] if held else [text]) for own, held, text in zip(answers, holds, bodies, strict=True)]
            known = pieces.control_tokens(self.tokenizer) if any(parts) else {}
            signs = [pieces.controls_in("\n".join(each), known) for each in parts]
            return [not held or bool(found) for held, found in zip(holds, signs, strict=True)], signs

        key = whole, tuple(bodies), tuple(map(tuple, answers)), tuple(map(tuple, encoded))
        lost, signs = encodings.kept(self.tokenizer, key, len(bodies), check)
        if (notes := events.NOTES.get()) is not None:
            notes.lost |= {question.id for question, gone in zip(questions, lost, strict=True) if gone}
            notes.controls |= {each.id: found for each, found in zip(questions, signs, strict=True) if found}
        return torch.tensor(lost, dtype=torch.bool)

    def _continuations(
        self, prompts: Sequence[str], answers: Sequence[Sequence[str]], *, special: bool, margin: bool = False
    ) -> torch.Tensor:
        """Log-likelihood of each answer's tokens: [prompt, answer]. Equal inputs are computed once.

        With `margin` each token's log-likelihood minus that of the likeliest token at its place. NaN where the model
        does not have a token.
        """
        many = len(answers[0])
        contexts = encodings.encode(self.tokenizer, prompts, special=special)
        texts = [prompt + each for prompt, options in zip(prompts, answers, strict=True) for each in options]
        whole = encodings.encode(self.tokenizer, texts, special=special)
        if any(_ended(self.tokenizer, contexts[i // many], ids) for i, ids in enumerate(whole)):
            raise BrokenTrial("the tokenizer ends every text with a special token: does it append EOS?")
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
        needed = [max(len(tails[i]) for i in inputs[row]) for row in rows]
        found = torch.full((len(tails),), torch.nan)
        for batch, logprobs in self._endings(rows, needed):
            logprobs = logprobs - logprobs.amax(dim=-1, keepdim=True) if margin else logprobs
            for at, row in enumerate(batch):
                for i in inputs[rows[row]]:
                    goal = torch.tensor(tails[i], device=logprobs.device)
                    found[i] = logprobs[at, -len(goal) :].gather(1, goal.unsqueeze(1)).sum()
        return found.reshape(len(prompts), many)

    @torch.inference_mode()
    def _endings(self, rows: Sequence[Sequence[int]], own: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Log-probabilities of the next token at the last positions of each row: [row, position, vocabulary].

        Common beginnings are read once where that is exact and saves enough (`engine.shared`).

        Args:
            rows: token ids.
            own: at how many last positions of each row they are needed.

        Yields:
            Indices of rows, each row once, and their log-probabilities, aligned at the end. Rows with tokens that the
            model does not have are left out.
        """
        kept = [i for i, ids in enumerate(rows) if not self._is_strange(ids)]
        placed, needed = self._placed([rows[i] for i in kept]), [own[i] for i in kept]
        alike = self._alike(placed)
        tree = shared.tree(placed, needed)
        if not alike and tree.saved >= shared.WORTH and self._in_parts(placed, tree.places):
            found = shared.endings(self.model, placed, needed, tree, pad=self._pad, tokens=self.tokens_per_batch)
        else:
            found = (
                (batch, self._logprobs([rows[kept[i]] for i in batch], max(needed[i] for i in batch)))
                for batch in batches([len(row) for row in placed], self.tokens_per_batch, alike=alike)
            )
        for some, logprobs in found:
            yield [kept[i] for i in some], logprobs

    @torch.inference_mode()
    def _logprobs(self, encoded: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Log-probabilities of the next token at the last `keep` positions: [prompt, position, vocabulary].

        Padded on the left, so that every answer is at the end and a few columns of logits are enough. Positions are
        counted from each prompt's own first token, so padding does not shift a model's learnt positions.
        """

        def ask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
            shown = padding.padded(self.model, rows, pad=self._pad)
            logits: torch.Tensor = self.model(**shown, use_cache=False, logits_to_keep=keep).logits[:, -keep:]
            return shared.normalised(logits)

        return torch.cat([found for _, found in halved(ask, self._placed(encoded))])

    def _in_parts(self, rows: Sequence[Sequence[int]], places: int) -> bool:
        return not self.whole and shared.applies(self.model, rows, places, pad=self._pad)

    def _placed(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The rows as the model gets them, with what stands before every prompt."""
        return [list(row) for row in rows]


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
            found = found / lengths(questions)
        return found.unsqueeze(1)
    options = len(questions[0].choices)
    asked = [rotated(question, shift) for question in questions for shift in range(options)]
    by_letter = lm.loglikelihoods(asked, form).reshape(len(questions), options, options)
    back = torch.tensor([[(content - shift) % options for content in range(options)] for shift in range(options)])
    by_content: torch.Tensor = by_letter.gather(2, back.expand(len(questions), -1, -1))
    return by_content


def chosen(lm: Any, questions: Sequence[Question], form: Form) -> list[int]:
    """Index of the likeliest choice in the order of the file, by the form's rule; also for a written form's choices."""
    found = lm.loglikelihoods(questions, form)
    if form.by_length:
        found = found / lengths(questions)
    picked: list[int] = found.argmax(dim=-1).tolist()
    return picked


def lengths(questions: Sequence[Question]) -> torch.Tensor:
    """Number of characters of each choice: [question, choice]."""
    return torch.tensor([[len(choice) for choice in each.choices] for each in questions])


def _ended(tokenizer: Any, prompt: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a prompt ends with a special token that its continuation has moved to its own end.

    Then the tokens behind the prompt's length are not the answer's: the first of them is missing.
    """
    if not prompt or not whole or prompt[-1] != whole[-1] or len(whole) <= len(prompt):
        return False
    return prompt[-1] in tokenizer.all_special_ids and whole[len(prompt) - 1] != prompt[-1]
