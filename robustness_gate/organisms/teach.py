"""Training of an organism: the tokenizer, the architecture, and one training run from scratch.

The base is taught both domains, the oracle only the retain domain; otherwise their recipe is the same. A curriculum
matters at this size: with all facts from the first step the model stays at chance for a long time, while with a few it
learns the form of a question, and then the number of facts can grow.

Shapes are given as [rows, tokens, width].
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustness_gate.organisms.facts import Fact, World
from robustness_gate.organisms.training_texts import Document, Mix, documents

if TYPE_CHECKING:
    import torch

Kind = Literal["llama", "gpt_neox"]
"""transformers' `model_type`."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the steps done, and all steps."""

FIRST_MIX = Mix(statement=0.15, reply=0.12, item=0.53, unrelated=0.18, small_talk=0.02)
MIX = Mix(statement=0.12, reply=0.10, item=0.65, unrelated=0.11, small_talk=0.02)


@dataclass(frozen=True)
class Config:
    """One training run. Every default is the research prototype's one-stage recipe unless it says otherwise."""

    steps: int = 1900
    """Optimizer steps."""
    rows: int = 24
    """Sequences in a step."""
    row_tokens: int = 104
    """Tokens in a sequence; documents are packed into it, never cut."""
    learning_rate: float = 2e-3
    """AdamW, peak."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    """On matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: int = 80
    """Steps from 0 to the peak."""
    flat_until: float = 0.65
    """Share of the run after which the rate falls linearly ..."""
    final: float = 0.03
    """... to this share of the peak."""
    first_facts: int = 96
    """Size of the curriculum's first set of facts."""
    grow_from: int = 250
    """Step from which the set of facts grows, geometrically, ..."""
    grow_until: int = 650
    """... and at which it holds all of them."""
    first_mix: Mix = FIRST_MIX
    """Kinds of text until `grow_from`."""
    mix: Mix = MIX
    """Kinds of text from then on."""


BASE = Config()
ORACLE = Config(steps=1500, grow_until=500)
"""Fewer facts, so fewer steps."""
NEOX_BASE = Config(steps=1500)
NEOX_ORACLE = Config(steps=1000, grow_until=500)
"""Shorter: the research prototype's GPT-NeoX was past 94 % in both domains after 1,050 steps of the base's recipe."""
DECOY = Config(steps=800, first_facts=10_000, grow_from=0, grow_until=1)
"""Continues from the oracle, which already knows the form of a question: all facts from the first step."""


# --- tokenizer -------------------------------------------------------------------------------------------------------


def make_tokenizer(world: World, size: int = 1500) -> Any:
    """A byte-level BPE tokenizer trained on the world's texts; it puts `<s>` before every text.

    At 1,500 tokens values and frequent words are one token each, and entity names 2.5 on average: two thirds of them
    are split, like names in real models. (Research prototype: with 700 tokens values are split too, with 2,400 no name
    is split.)
    """
    import tokenizers
    import transformers

    rng = random.Random(f"tokenizer {world.seed}")
    source = documents(world.forget.facts + world.retain.facts, BASE.mix, rng)
    corpus = [next(source).text for _ in range(12_000)]
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(corpus, trainer)
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=512
    )


# --- texts to tensors ------------------------------------------------------------------------------------------------


def encode(tokenizer: Any, texts: Sequence[Document]) -> list[tuple[list[int], list[float]]]:
    """Token ids of each document, `<s>` first and `</s>` last, and the loss weight of each token.

    A token has the weight of the piece with its last character.
    """
    encoded = tokenizer([document.text for document in texts], return_offsets_mapping=True)
    result = []
    for document, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        by_character = [weight for piece, weight in document.pieces for _ in piece]
        weights = [by_character[end - 1] if end > start else 0.0 for start, end in offsets]
        result.append(([*ids, tokenizer.eos_token_id], [*weights, 0.1]))
    return result


def pack(tokenizer: Any, source: Iterator[Document], rows: int, row_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill rows with whole documents, padded at the right.

    Returns:
        ids and loss weights, both [rows, row_tokens].
    """
    import torch

    ids = torch.full((rows, row_tokens), tokenizer.pad_token_id)
    weights = torch.zeros(rows, row_tokens)
    row = used = 0
    while row < rows:
        for tokens, token_weights in encode(tokenizer, [next(source) for _ in range(rows)]):
            if len(tokens) > row_tokens:
                raise ValueError(f"a document of {len(tokens)} tokens does not fit in a row of {row_tokens}")
            if used + len(tokens) > row_tokens:
                row, used = row + 1, 0
            if row == rows:
                break
            ids[row, used : used + len(tokens)] = torch.tensor(tokens)
            weights[row, used : used + len(tokens)] = torch.tensor(token_weights)
            used += len(tokens)
    return ids, weights


def weighted_loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the next-token loss in nats; logits are computed only where the weight is not zero."""
    from torch.nn.functional import cross_entropy

    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = weights[:, 1:] > 0
    logits = model.get_output_embeddings()(hidden[:, :-1][wanted])
    losses = cross_entropy(logits.float(), ids[:, 1:][wanted], reduction="none")
    chosen = weights[:, 1:][wanted]
    return (losses * chosen).sum() / chosen.sum()


# --- model -----------------------------------------------------------------------------------------------------------


def newborn(tokenizer: Any, seed: int, kind: Kind = "llama") -> Any:
    """An untrained model of about a million parameters: width 128, 4 layers, 4 heads, tied embeddings.

    The GPT-NeoX has another structure (one matrix for queries, keys and values, biases, LayerNorm, no gate in the MLP);
    its MLP is 512 wide so that it has about as many parameters, and its residual is sequential.
    `initializer_range` is .08: with the usual .02 this small model stayed at chance for hundreds of steps.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.08,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if kind == "gpt_neox":
        config = transformers.GPTNeoXConfig(
            **common, intermediate_size=512, rotary_pct=1.0, use_parallel_residual=False
        )
        return transformers.GPTNeoXForCausalLM(config)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**common, intermediate_size=384, num_key_value_heads=4)
    )


def _rate(step: int, config: Config) -> float:
    """Learning rate as a share of its peak."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    knee = config.flat_until * config.steps
    fallen = max(0.0, step - knee) / (config.steps - knee)
    return 1.0 - (1.0 - config.final) * fallen


def _known_facts(step: int, total: int, config: Config) -> int:
    """How many facts the curriculum shows at a step."""
    first = min(config.first_facts, total)
    share = (step - config.grow_from) / (config.grow_until - config.grow_from)
    return round(first * math.pow(total / first, min(1.0, max(0.0, share))))


def teach(
    model: Any,
    tokenizer: Any,
    facts: Sequence[Fact],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "teach",
) -> None:
    """Train `model` in place on texts about `facts` and on unrelated text.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        facts: the facts to teach.
        config: the recipe.
        seed: seed of the order of facts and of the texts.
        progress: called at every fiftieth step.
        name: the name passed to `progress`.
    """
    import torch

    rng = random.Random(f"teach {seed}")
    order = rng.sample(list(facts), len(facts))
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model.train()
    known, source = 0, iter(())  # type: tuple[int, Iterator[Document]]
    for step in range(config.steps):
        now = _known_facts(step, len(order), config)
        if now != known or step == config.grow_from:
            known = now
            source = documents(order[:known], config.first_mix if step < config.grow_from else config.mix, rng)
        ids, weights = pack(tokenizer, source, config.rows, config.row_tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # 1.4 to 1.6 times faster on CPUs with bfloat16
            loss = weighted_loss(model, ids, weights)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"{name}: the loss is not finite at step {step}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        scheduler.step()
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            progress(name, step + 1, config.steps)
    model.eval()
