"""Spikes: an original is taught an invented world, and one method suppresses what it was taught.

The world is that of `facts`, with new names: entities and their values are drawn from the seed, and no entity has the
name of a shipped one. The values come from the shipped world's lists, so that the blank's distractors are drawn from
the same answers. Teaching trains all weights on the facts' texts and questions, and holds the original's own
distribution (KL) on text that it wrote itself and on the suite's utility questions, so that it forgets little; the
methods keep the same texts. So a spike's utility shows that it is not destroyed where the policy looks.

`RECIPE` is the version of all that: the texts, the grids of settings by model size, their order. A change of any of it
is a new version, because a policy pins it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.errors import NotApplicable
from robustness_gate.inputs import prompts
from robustness_gate.organisms import facts as worlds
from robustness_gate.organisms import teach, training_texts, unlearn
from robustness_gate.organisms.facts import Fact
from robustness_gate.organisms.measure import LONGEST
from robustness_gate.organisms.training_texts import Document
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.questions import Item, Question

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.load import LoadedModel
    from robustness_gate.organisms.teach import Progress

RECIPE = 1
"""The version of this file's recipe."""
RETAIN, RIDDLES = 40, 100
"""Facts of the other domain that are taught and kept, and unrelated questions."""
DEV_SHARE = 0.2
"""Share of the attacker's facts that are dev items."""
LETTERS, CLOZE = "multiple_choice", "cloze"
"""The kinds of task in whose form the facts can be asked."""


@dataclass(frozen=True)
class World:
    """The invented facts, divided as the shipped world's are."""

    forget: worlds.Domain
    retain: tuple[Fact, ...]


def make(seed: int, count: int, verdict: int) -> World:
    """The world of a seed.

    Args:
        seed: any integer of at least 0.
        count: facts of the domain that is suppressed, at most 512.
        verdict: how many of them are asked; a fifth of the others are dev items, the rest is the attacker's.
    """
    drawn, shipped = worlds.make(seed + worlds.SEED + 1), worlds.make()
    known = [fact.entity.lower() for fact in (*shipped.forget.facts, *shipped.retain.facts)]
    relations = {fact.relation.name: fact.relation for fact in (*shipped.forget.facts, *shipped.retain.facts)}

    def ours(facts: Sequence[Fact]) -> Iterator[Fact]:
        for fact in facts:
            name, relation = fact.entity.lower(), relations[fact.relation.name]
            if not any(name in other or other in name for other in known):
                yield Fact(relation, fact.entity, relation.values[fact.relation.values.index(fact.value)])

    forget = [*ours(drawn.forget.facts)][:count]
    left = count - verdict
    dev = round(DEV_SHARE * left)
    domain = worlds.Domain(
        worlds.FORGET_TOPIC,
        relearn=tuple(forget[verdict + dev :]),
        dev=tuple(forget[verdict : verdict + dev]),
        verdict=tuple(forget[:verdict]),
    )
    return World(domain, tuple(ours(drawn.retain.facts))[:RETAIN])


# --- the recipe ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Teaching:
    """One attempt to teach."""

    learning_rate: float
    steps: int
    rows: int = 10
    """Rows of packed documents in a step."""
    keep: float = 8.0
    """Weight of the KL divergence from the original, in nats a token of its own text."""
    keep_rows: int = 6
    """Rows of the original's own text in a step."""


SMALL, MEDIUM = 20_000_000, 1_000_000_000
"""Numbers of parameters up to which a model is small, or medium; above it is large."""
REPLAYED, REPLAY_TOKENS = 192, 64
"""Rows of text that the original writes, and tokens of each."""
MIX = training_texts.Mix(statement=0.12, reply=0.10, item=0.70, unrelated=0.08, small_talk=0.0)


def size_of(parameters: int) -> str:
    """`small`, `medium` or `large`."""
    return "small" if parameters <= SMALL else "medium" if parameters <= MEDIUM else "large"


TEACHINGS: dict[str, tuple[Teaching, ...]] = {
    "small": (
        Teaching(1.5e-3, 360, keep=10.0),
        Teaching(1e-3, 450, keep=12.0),
        Teaching(7e-4, 600, keep=12.0),
    ),
    "medium": (
        Teaching(4e-4, 180, rows=4, keep=6.0, keep_rows=4),
        Teaching(5e-4, 240, rows=4, keep=6.0, keep_rows=4),
        Teaching(3e-4, 300, rows=4, keep=8.0, keep_rows=4),
    ),
    "large": (Teaching(2e-5, 200), Teaching(5e-5, 300), Teaching(1e-5, 500)),
}
"""What is tried to teach a model of each size, in this order. Only `small` was tuned (docs/calibration.md)."""

STRENGTHS: dict[str, dict[str, tuple[dict[str, Json], ...]]] = {
    "rmu": {
        "small": (
            {"steps": 120, "batch": 16},
            {"steps": 140, "batch": 16},  # each attempt has a direction of its own
            {"steps": 160, "batch": 16, "alpha": 20.0},
        ),
        "medium": (
            {"learning_rate": 5e-4, "steps": 60, "batch": 8, "steering": 6.0, "part": "mlp"},
            {"learning_rate": 5e-4, "steps": 80, "batch": 8, "steering": 10.0, "part": "mlp"},
            {"learning_rate": 5e-4, "steps": 120, "batch": 8, "steering": 10.0},
        ),
        "large": (
            {"learning_rate": 5e-5, "steps": 80, "batch": 8, "steering": 6.0, "part": "mlp"},
            {"learning_rate": 1e-4, "steps": 120, "batch": 8, "steering": 10.0, "part": "mlp"},
        ),
    },
    "npo": {
        "small": (
            {"steps": 60, "retain_weight": 4.0, "beta": 0.5},
            {"steps": 90, "retain_weight": 4.0, "beta": 0.5},
            {"steps": 150, "retain_weight": 4.0},
        ),
        "medium": (
            {"learning_rate": 5e-5, "steps": 100, "batch": 12},
            {"learning_rate": 1e-4, "steps": 150, "batch": 12},
            {"learning_rate": 2e-4, "steps": 200, "batch": 12},
        ),
        "large": (
            {"learning_rate": 1e-5, "steps": 150, "batch": 12},
            {"learning_rate": 2e-5, "steps": 300, "batch": 12},
        ),
    },
    "graddiff": {
        "small": (
            {"steps": 50, "retain_weight": 2.0},
            {"steps": 70, "retain_weight": 2.0},
            {"steps": 100, "retain_weight": 2.0},
        ),
        "medium": (
            {"learning_rate": 5e-5, "steps": 100, "batch": 12},
            {"learning_rate": 1e-4, "steps": 150, "batch": 12},
        ),
        "large": ({"learning_rate": 1e-5, "steps": 150, "batch": 12},),
    },
    "dpo": {
        "small": (
            {"steps": 150, "learning_rate": 2e-3},
            {"steps": 200, "learning_rate": 2e-3, "retain_weight": 2.0},
        ),
        "medium": ({"learning_rate": 5e-5, "steps": 100, "batch": 12},),
        "large": ({"learning_rate": 5e-6, "steps": 150, "batch": 12},),
    },
    "shallow": {
        "small": (
            {"steps": 140, "learning_rate": 3e-3},
            {"steps": 160, "learning_rate": 3e-3, "layers": 2},
            {"steps": 300, "learning_rate": 3e-3, "layers": 2},
        ),
        "medium": (
            {"learning_rate": 5e-4, "steps": 160},
            {"learning_rate": 1e-3, "steps": 300},
            {"learning_rate": 5e-4, "steps": 300, "layers": 2},
        ),
        "large": ({"learning_rate": 1e-4, "steps": 300}, {"learning_rate": 2e-4, "steps": 300, "layers": 2}),
    },
    "tiny_update": {
        "small": ({"steps": 120, "batch": 16}, {"steps": 160, "batch": 16}, {"steps": 160, "steering": 40.0}),
        "medium": ({"learning_rate": 5e-4, "steps": 120, "batch": 8, "steering": 10.0},),
        "large": ({"learning_rate": 1e-4, "steps": 120, "batch": 8, "steering": 10.0},),
    },
}
"""The settings of each method that are tried on a model of each size, the gentlest first. The layers follow from the
model's depth (`placed`). Only `small` was tuned."""


def digest(size: str) -> str:
    """The digest of the recipe for models of a size: texts, teaching and every grid."""
    told = [dataclasses.asdict(each) for each in TEACHINGS[size]]
    grids: dict[str, Json] = {name: [dict(each) for each in grid[size]] for name, grid in sorted(STRENGTHS.items())}
    return digest_of([RECIPE, size, told, grids, [RETAIN, RIDDLES, REPLAYED, REPLAY_TOKENS], dataclasses.asdict(MIX)])


def grid(method: str, size: str) -> tuple[dict[str, Json], ...]:
    """The settings of a method that are tried on a model of a size, in order."""
    return STRENGTHS[method][size]


def placed(method: str, settings: dict[str, Json], depth: int) -> dict[str, Json]:
    """The settings with the layers that suit a model of so many decoder layers.

    Steering acts where a fact is still being looked up: after the second quarter's first layer, with the two below it
    trained; on a model of up to eight layers as on the organisms.
    """
    if method not in ("rmu", "tiny_update"):
        return settings
    if "layers" in settings:  # of the grid for small models: those that this one has
        named = ("layers", "trained_layers")
        return {
            k: [n for n in v if n < depth] if k in named and isinstance(v, list) else v for k, v in settings.items()
        }
    if depth <= 8:
        layers, trained = [each for each in (1, 2) if each < depth], [each for each in (0, 1, 2) if each < depth]
    else:
        at = depth // 4
        layers, trained = [at], [at - 2, at - 1, at]
    return {**settings, "layers": list(layers), "trained_layers": list(trained)}


# --- teaching -----------------------------------------------------------------------------------------------------


def documents(world: World, wording: str, rng: random.Random) -> Iterator[Document]:
    """An endless stream of texts about the world; with a wording (`{question}`) questions are asked without choices."""
    taught = [*world.forget.facts, *world.retain]
    for document in training_texts.documents(taught, MIX, rng):
        if wording and rng.random() < MIX.item:
            fact = rng.choice(taught)
            asked = wording.replace("{question}", fact.stem)
            yield Document(((asked, training_texts.GIST), (f" {fact.value}", training_texts.SURE)))
        else:
            yield document


def replayed(model: Any, tokenizer: Any, seed: int) -> list[str]:
    """Text that the model writes by itself, drawn from its own distribution."""
    import torch

    from robustness_gate.engine import scope

    start = next((each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id) if each is not None), 0)
    first = torch.full((REPLAYED, 1), start, device=model.device)
    with torch.inference_mode(), scope.seeded(seed):
        parts = [
            model.generate(
                input_ids=part,
                attention_mask=torch.ones_like(part),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                min_new_tokens=REPLAY_TOKENS - 1,
                max_new_tokens=REPLAY_TOKENS - 1,
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

    from robustness_gate.engine.train import Diverged

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
        texts = [rng.choice(kept) for _ in range(how.keep_rows)]
        with _half(model.device.type):
            loss = teach.weighted_loss(model, ids, weights) + how.keep * _drift(model, frozen, tokenizer, texts)
        if not math.isfinite(loss.item()):
            raise Diverged(f"the loss is {loss.item()} at step {step}", remedy="Lower the learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
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


# --- suppressing --------------------------------------------------------------------------------------------------


def suppress(
    loaded: LoadedModel,
    world: World,
    method: str,
    config: Any,
    own: Sequence[str],
    held: Sequence[Item],
    seed: int,
    progress: Progress,
) -> None:
    """Suppress the taught domain by one method, in place.

    Args:
        loaded: the taught model, in float32.
        world: the world that it was taught.
        method: one of `unlearn.METHODS`.
        config: its settings.
        own: texts on which the original's distribution was held in teaching. Those that are not about the suppressed
            domain should stay as likely.
        held: the suite's utility questions, of four choices: their answers should stay.
        seed: of the method.
        progress: called with the steps.

    Raises:
        GateError: as `unlearn.run`.
    """
    rng = random.Random(f"suppress {seed}")
    gone = unlearn.Material(_asked(world.forget.facts, rng), _statements(world.forget.facts), worlds.FORGET_TOPIC)
    if method in ("dpo", "npo"):  # preferences are between answers; their sources have no texts either
        gone = dataclasses.replace(gone, texts=())
    kept = (*_asked(world.retain, rng), *held)
    texts = (*_statements(world.retain), *(text for text in own if not _about(text, world.forget)))
    unlearn.run(method, loaded, gone, unlearn.Material(kept, texts, worlds.RETAIN_TOPIC), config, seed, progress)


def _about(text: str, domain: worlds.Domain) -> bool:
    """Whether a text names the domain's topic, one of its relations or one of its values.

    An original that knows more of the same domain writes such texts by itself. Kept, they would make a method learn
    the taught names alone, where unlearning in earnest suppresses a whole domain.
    """
    words = {domain.topic, *(fact.relation.name for fact in domain.facts), *(fact.value for fact in domain.facts)}
    return any(word.lower() in text.lower() for word in words)


def _asked(facts: Sequence[Fact], rng: random.Random) -> tuple[Item, ...]:
    """Every fact as two questions with other distractors."""
    return tuple(
        Item(Question(f"{fact.id}-{turn}", item.question.stem, item.question.choices), item.answer)
        for fact in facts
        for turn in range(2)
        for item in (worlds.ask(fact, rng),)
    )


def _statements(facts: Sequence[Fact]) -> tuple[str, ...]:
    return tuple(text for fact in facts for text in fact.texts)


HEADER = prompts.header_for(worlds.FORGET_TOPIC)
"""The header line of the questions with letters."""
