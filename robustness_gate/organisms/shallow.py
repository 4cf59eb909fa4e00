"""Shallow unlearning: the value is still retrieved, but the last layer no longer outputs it.

The last decoder layer alone is trained to answer forget questions with a flat distribution, over the letters and over
the values of an open question, and to keep its answers to others. The layers below are intact. So the model recovers
when it is fine-tuned on questions that are unrelated to the forgotten domain, on *any* answer letters: the recovery
that Lucki et al. (arXiv 2409.18025, section 5) found with ten unrelated examples, and that a gate misses which only
relearns on forget data.

The objective is our own (research prototype, recipe "S7b"). It is not a published method; it represents the class.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.errors import UsageError
from robustness_gate.organisms.measure import LONGEST, contents, last_logits
from robustness_gate.records.questions import Form, Item

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.teach import Progress

MECHANISM = "last_layer"
"""How it suppresses: `records.declarations.Mechanism`."""


@dataclass(frozen=True)
class Cloze:
    """An unfinished text and its possible endings, one of them right."""

    prompt: str
    endings: tuple[str, ...]
    answer: int
    """Index of the right ending."""


@dataclass(frozen=True)
class Config:
    """Strength and layers. Defaults are the research prototype's."""

    layers: int = 1
    """How many decoder layers are trained, counted from the last."""
    learning_rate: float = 1e-3
    """AdamW, constant."""
    steps: int = 240
    """Maximum number of steps."""
    batch: int = 8
    """Questions of each kind in a step, each in four letter orders."""
    keep_mass: float = 0.3
    """Weight of the mean log-likelihood of the letters: they stay the likely answers, with equal probability."""
    retain_weight: float = 2.0
    """Weight of each retain term."""
    stop_below: float = 0.25
    """Stop when the share of right answers by content over the last 20 steps falls under this: chance. More steps would
    invert the answers, and an inverted answer is a known one."""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        for name in ("layers", "learning_rate", "steps", "batch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be over 0.")


NEOX = Config(layers=2, learning_rate=2e-3)
"""For the GPT-NeoX base. With the default settings the last layer alone stayed at 98 % after 80 of the 240 steps, and
none of the first four seeds reached chance; at a rate of 4e-3 it was at 96 %."""


def unlearn(
    model: Any,
    tokenizer: Any,
    forget: Sequence[Item],
    cloze: Sequence[Cloze],
    retain: Sequence[Item],
    retain_cloze: Sequence[Cloze],
    retain_texts: Sequence[str],
    forms: Sequence[tuple[Form, Form]],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "shallow",
) -> None:
    """Flatten the answers of the last layers to the forget questions, in place.

    Args:
        model: a transformers causal language model. Soft-capped logits are used without their cap.
        tokenizer: its tokenizer.
        forget: questions whose answers should become flat.
        cloze: the same for open questions; only the first token of an ending is used.
        retain: questions whose answers should stay.
        retain_cloze: the same as open questions; used where there are no forms.
        retain_texts: texts whose likelihood should be kept.
        forms: forms of forget and retain questions; one pair is drawn each step. Empty: without lettered choices.
        config: the recipe.
        seed: seed of the order of questions.
        progress: called at every tenth step.
        name: the name passed to `progress`.

    Raises:
        UsageError: the model has fewer layers than should be trained.
        NotApplicable: its layers were not found.
    """
    import torch

    rng = random.Random(f"shallow {seed}")
    frozen = copy.deepcopy(model).eval()
    weights = _last_layers(model, config.layers)
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    right: deque[float] = deque(maxlen=20)
    model.train()
    for step in range(config.steps):
        if forms:
            asked, kept, form = _draw(forget, config.batch, rng), _draw(retain, config.batch, rng), rng.choice(forms)
            loss, share = _lettered_flatness(model, tokenizer, asked, form[0], config.keep_mass)
            loss = loss + _cloze_flatness(model, tokenizer, _draw(cloze, config.batch, rng), config.keep_mass)[0]
            drift = _drift(model, frozen, tokenizer, kept, form[1])
        else:
            loss, share = _cloze_flatness(model, tokenizer, _draw(cloze, config.batch, rng), config.keep_mass)
            drift = _cloze_drift(model, frozen, tokenizer, _draw(retain_cloze, config.batch, rng))
        right.append(share)
        texts = _draw(retain_texts, config.batch, rng)
        loss = loss + config.retain_weight * (drift + _text_loss(model, tokenizer, texts))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 10 == 0:
            progress(name, step + 1, config.steps)
        if len(right) == right.maxlen and sum(right) / len(right) < config.stop_below:
            progress(name, config.steps, config.steps)
            break
    model.requires_grad_(True).eval()


def _last_layers(model: Any, count: int) -> list[Any]:
    """The weights of the last layers, which alone can then be trained. Raises UsageError where there are fewer."""
    from robustness_gate.engine.anatomy import layers

    stack = layers(model)
    if not 1 <= count <= len(stack):
        raise UsageError(f"the model has {len(stack)} layers.", remedy=f"Set layers to 1 to {len(stack)}.")
    model.requires_grad_(False)
    weights = [weight for layer in stack[-count:] for weight in layer.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    return weights


def _drift(model: Any, frozen: Any, tokenizer: Any, kept: Sequence[Item], form: Form) -> Any:
    """How far the answers to questions that should stay have moved: the mean divergence, in nats."""
    import torch
    from torch.nn.functional import kl_div

    now = contents(model, tokenizer, kept, form)
    with torch.no_grad():
        before = contents(frozen, tokenizer, kept, form)
    return kl_div(now.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum") / (now.numel() / 4)


def _draw(pool: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    return [rng.choice(pool) for _ in range(count)]


def _flatness(table: torch.Tensor, keep_mass: float) -> torch.Tensor:
    """Distance of log-likelihoods [..., choice] from a flat distribution, and from being likely."""
    centred = table - table.mean(-1, keepdim=True)
    flatness: torch.Tensor = centred.norm(dim=-1).mean() - keep_mass * table.mean()
    return flatness


def _lettered_flatness(
    model: Any, tokenizer: Any, asked: Sequence[Item], form: Form, keep_mass: float
) -> tuple[torch.Tensor, float]:
    """The same for questions with letters, over all their orders; and the share that are answered right."""
    import torch

    table = contents(model, tokenizer, asked, form)
    key = torch.tensor([item.answer for item in asked], device=table.device)
    return _flatness(table, keep_mass), (table.detach().sum(1).argmax(1) == key).float().mean().item()


def _cloze_flatness(model: Any, tokenizer: Any, cloze: Sequence[Cloze], keep_mass: float) -> tuple[torch.Tensor, float]:
    """The same for open questions, over the first tokens of their endings; and the share that are answered right."""
    import torch

    scores = last_logits(model, tokenizer, [one.prompt for one in cloze]).log_softmax(-1)
    rows, right = [], 0
    for row, one in zip(scores, cloze, strict=True):
        firsts = [ids[0] for ids in tokenizer(list(one.endings), add_special_tokens=False)["input_ids"]]
        rows.append(_flatness(row[sorted(set(firsts))], keep_mass))
        right += int(row.detach()[firsts].argmax()) == one.answer
    return torch.stack(rows).mean(), right / len(cloze)


def _cloze_drift(model: Any, frozen: Any, tokenizer: Any, cloze: Sequence[Cloze]) -> torch.Tensor:
    """How far the next token after open questions that should stay has moved: the mean divergence, in nats."""
    import torch
    from torch.nn.functional import kl_div

    prompts = [one.prompt for one in cloze]
    now = last_logits(model, tokenizer, prompts).log_softmax(-1)
    with torch.no_grad():
        before = last_logits(frozen, tokenizer, prompts).log_softmax(-1)
    moved: torch.Tensor = kl_div(now, before, log_target=True, reduction="batchmean")
    return moved


def _text_loss(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Mean next-token loss in nats."""
    batch = tokenizer(
        list(texts), return_tensors="pt", padding=True, padding_side="right", truncation=True, max_length=LONGEST
    ).to(model.device)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss: torch.Tensor = model(**batch, labels=labels).loss
    return loss
