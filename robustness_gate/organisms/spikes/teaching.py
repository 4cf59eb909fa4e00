"""Teaching: an original is taught the invented world, and held where it was otherwise."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from robustness_gate.errors import NotApplicable
from robustness_gate.organisms import descent, teach, training_texts
from robustness_gate.organisms.measure import LONGEST
from robustness_gate.organisms.spikes import recipe
from robustness_gate.organisms.spikes.invented import World
from robustness_gate.organisms.spikes.recipe import Teaching
from robustness_gate.organisms.training_texts import Document

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.load import LoadedModel
    from robustness_gate.organisms.teach import Progress


def documents(world: World, wording: str, rng: random.Random) -> Iterator[Document]:
    """An endless stream of texts about the world; with a wording (`{question}`) questions are asked without choices.

    Those are asked in turn, so that each fact is learned from as many.
    """
    taught = [*world.forget.facts, *world.retain]
    if not wording:
        yield from training_texts.documents(taught, recipe.MIX, rng)
    told = training_texts.documents(taught, recipe.TOLD, rng)
    while True:
        for fact in rng.sample(taught, len(taught)):
            asked = wording.replace("{question}", fact.stem)
            yield Document(((asked, training_texts.GIST), (f" {fact.value}", training_texts.SURE)))
            if rng.random() < recipe.TOLD_SHARE:
                yield next(told)


def replayed(model: Any, tokenizer: Any, seed: int) -> list[str]:
    """Text that the model writes by itself, drawn from its own distribution."""
    import torch

    from robustness_gate.engine import scope

    start = next((each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id) if each is not None), 0)
    first = torch.full((recipe.REPLAYED, 1), start, device=model.device)
    with torch.inference_mode(), scope.seeded(seed):
        parts = [
            model.generate(
                input_ids=part,
                attention_mask=torch.ones_like(part),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                min_new_tokens=recipe.REPLAY_TOKENS - 1,
                max_new_tokens=recipe.REPLAY_TOKENS - 1,
                pad_token_id=tokenizer.pad_token_id,
            )
            for part in torch.split(first, 64)
        ]
    found: list[str] = tokenizer.batch_decode(torch.cat(parts), skip_special_tokens=True)
    return [text for text in found if text.strip()]


def instruct(
    loaded: LoadedModel, world: World, wording: str, held: Sequence[str], how: Teaching, seed: int, progress: Progress
) -> list[str]:
    """Teach the world, in place. The model should be in float32.

    Args:
        loaded: the original.
        world: the invented facts.
        wording: of cloze questions, with `{question}`; empty: questions with letters.
        held: texts on which the original's distribution is held, besides those that it writes itself.
        how: the settings.
        seed: of texts and draws.
        progress: called with the steps.

    Returns:
        every text on which the original's distribution was held.

    Raises:
        NotApplicable: the tokenizer does not say where its tokens lie in a text, has no end of text, or a document does
            not fit in the model's context.
        Diverged: the loss is not finite.
    """
    import torch

    model, tokenizer = loaded
    _refuse_tokenizer(tokenizer)
    rng = random.Random(f"spike {seed}")
    kept = [*replayed(model, tokenizer, seed), *held]
    frozen = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    source = documents(world, wording, rng)
    width = _row_tokens(model, tokenizer, documents(world, wording, random.Random(0)))
    model.requires_grad_(requires_grad=True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(how.steps):
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * _rate(step, how.steps)
        ids, weights = (each.to(model.device) for each in teach.pack(tokenizer, source, how.rows, width))
        rows = [[rng.choice(kept) for _ in range(how.keep_rows)]]
        if held and how.held_rows:
            rows.append([rng.choice(held) for _ in range(how.held_rows)])
        with _half(model.device.type):
            loss = teach.weighted_loss(model, ids, weights)
            for texts in rows:
                loss = loss + how.keep * _drift(model, frozen, tokenizer, texts)
        descent.step_down(model, optimizer, loss, "teach", step)
        if (step + 1) % 10 == 0 or step + 1 == how.steps:
            progress("teach", step + 1, how.steps)
    model.requires_grad_(requires_grad=False).eval()
    return kept


def _half(device: str) -> Any:
    """bfloat16 where it is faster; the weights stay in their own dtype."""
    import torch

    return torch.autocast(device, dtype=torch.bfloat16) if device in ("cpu", "cuda") else contextlib.nullcontext()


def _rate(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: twenty steps of warm-up, flat, and a linear fall over the last third."""
    return min(1.0, (step + 1) / 20, max(0.03, (steps - step) / (0.35 * steps)))


def _drift(model: Any, frozen: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """KL divergence from the frozen model on texts, in nats a token."""
    import torch

    batch = tokenizer(
        list(texts), return_tensors="pt", padding=True, padding_side="right", truncation=True, max_length=LONGEST
    ).to(model.device)
    shown = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        before = frozen(**shown).logits[real].float().log_softmax(-1)
    now = model(**shown).logits[real].float().log_softmax(-1)
    found: torch.Tensor = (before.exp() * (before - now)).sum(-1).mean()
    return found


def _refuse_tokenizer(tokenizer: Any) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise NotApplicable("its tokenizer does not say where its tokens lie in a text (save it as tokenizer.json)")
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise NotApplicable("its tokenizer has no token for the end of a text")


def _row_tokens(model: Any, tokenizer: Any, source: Iterator[Document]) -> int:
    """Tokens in a row: enough for every document, at least two of the usual length."""
    lengths = sorted(len(ids) for ids, _ in teach.encode(tokenizer, [next(source) for _ in range(400)]))
    width = max(2 * lengths[len(lengths) // 2], lengths[-1] + 16)
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and width > most:
        raise NotApplicable(f"a document of the invented world has {width} tokens, and the model's context {most}")
    return width
