"""Unlearning of a user's checkpoint: `robustness-gate organisms unlearn`.

Every method here takes a model, forget data and retain data; they differ in the form of the data. A question becomes
texts (rmu, tiny_update), solved prompts in every letter order and the right answer after the bare question (npo,
graddiff, dpo), or stays a question (shallow). `--words-only` leaves lettered choices out: for what is asked by
cloze or in open answers, and for a model that does not answer with letters. Only the first 512 tokens of a text are
used. No chat template is used.

The result is for tests of a gate, not for release: the settings suit a million parameters, and no method here is
robust.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from robustness_gate.errors import UsageError
from robustness_gate.inputs import datasets, prompts, tables
from robustness_gate.inputs.items import items_digest
from robustness_gate.organisms import dpo, graddiff, npo, rmu, shallow, tiny_update, world
from robustness_gate.organisms.measure import LONGEST
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.system.sentences import nearest

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel
    from robustness_gate.engine.train import Example
    from robustness_gate.organisms.teach import Progress

RECORD = "unlearning.json"
"""File name of the record next to the weights."""

GENERATION = "generation_config.json"
SCHEMA = "robustness-gate/unlearning/v1"

METHODS: dict[str, ModuleType] = {
    "rmu": rmu,
    "npo": npo,
    "graddiff": graddiff,
    "dpo": dpo,
    "shallow": shallow,
    "tiny_update": tiny_update,
}
"""The methods. Each declares its `MECHANISM`, which `records.mechanisms.mechanism_of` reads from its source, and has a
`Config` with defaults for all fields, and a docstring that describes it."""


@dataclass(frozen=True)
class Material:
    """Questions, texts or both."""

    items: tuple[Item, ...]
    texts: tuple[str, ...]
    topic: str = ""
    """Topic of the header line for every question, which is also shown bare; empty: bare alone."""
    lettered: bool = True
    """Whether its questions are used with lettered choices, besides alone with the words of the answer."""

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of its questions with lettered choices; none where it is not `lettered`."""
        if not self.lettered:
            return ()
        count = max((len(item.question.choices) for item in self.items), default=0)
        bare = Form(letters=tuple(string.ascii_uppercase[:count]))
        return (dataclasses.replace(bare, header=prompts.header_for(self.topic)), bare) if self.topic else (bare,)

    def record(self) -> dict[str, Json]:
        """Numbers and digests of its data, for the record."""
        return {
            "items": len(self.items),
            "items_sha256": items_digest(self.items),
            "texts": len(self.texts),
            "texts_sha256": digest_of(list(self.texts)),
            "topic": self.topic,
            "lettered": self.lettered,
        }


def method(name: str) -> ModuleType:
    """The module of an unlearning method. Raises UsageError for an unknown name."""
    if name not in METHODS:
        raise UsageError(f"there is no unlearning method '{name}'.", remedy=nearest(name, list(METHODS)))
    return METHODS[name]


def read(named: Sequence[str], topic: str, *, lettered: bool = True) -> Material:
    """Read questions and texts from the same kinds of sources as suites.

    Args:
        named: `organism:FILE`, a JSON-lines file, a folder, or a hub dataset, of items or of texts.
        topic: topic of the header line.
        lettered: as `Material.lettered`.

    Raises:
        UsageError, FileError, SetupError: one cannot be read.
    """
    items: list[Item] = []
    texts: list[str] = []
    for each in named:
        place = _place(each)
        if _holds_texts(place):
            texts += datasets.read_texts(place)
        else:
            items += datasets.read_items(place)
    return Material(tuple(items), tuple(texts), topic, lettered)


def _place(named: str) -> Path | str:
    if named.startswith("organism:"):
        return world(named.removeprefix("organism:"))
    return named if tables.is_hub(named) else Path(named)


def _holds_texts(place: Path | str) -> bool:
    """Whether a source holds items or texts, by its first row; other sources are refused like invalid items."""
    first = next(iter(datasets.read_rows(place)), None)
    return first is not None and "text" in first[1] and "question" not in first[1]


def refuse_folder(out: Path) -> None:
    """Raises UsageError where the folder is not empty: two checkpoints must not be in one folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not an empty folder.", remedy="Name a new one with --out.")


def refuse(name: str, forget: Material, retain: Material) -> None:
    """Raises UsageError where a method cannot be used on such data."""
    for option, material in (("--forget-topic", forget), ("--retain-topic", retain)):
        if material.topic and not material.lettered:
            raise UsageError(
                f"{option} is the header of lettered questions, and --words-only leaves those out.",
                remedy=f"Leave out {option} or --words-only.",
            )
    if name == "dpo" and not forget.items:
        raise UsageError("dpo needs questions to refuse.", remedy="Give --forget a file of items.")
    if name == "dpo" and forget.texts:
        raise UsageError("dpo cannot refuse a text.", remedy="Leave the texts out of --forget.")
    if name == "shallow":
        for option, material in (("--forget", forget), ("--retain", retain)):
            if not material.items or {len(item.question.choices) for item in material.items} != {4}:
                raise UsageError("shallow needs questions of four choices.", remedy=f"Give {option} a file of such.")


def run(
    name: str,
    loaded: LoadedModel,
    forget: Material,
    retain: Material,
    config: Any,
    seed: int,
    progress: Progress,
) -> None:
    """Unlearn, in place. The model should be in float32: small steps vanish in fewer bits.

    Args:
        name: the method.
        loaded: model and tokenizer; the model is changed.
        forget: the data to forget.
        retain: the data to keep.
        config: a `Config` of the method.
        seed: seed of all random choices.
        progress: called with the steps.

    Raises:
        UsageError: method, settings, data and model do not fit together.
        GateError: training diverged, or the model's structure is not recognised.
    """
    from robustness_gate.engine import scope

    refuse(name, forget, retain)
    rng = random.Random(f"unlearn {seed}")
    model, tokenizer = loaded
    with scope.seeded(seed):  # for dropout, where a model has it
        if name in ("rmu", "tiny_update"):
            by_texts: Callable[..., None] = METHODS[name].unlearn
            by_texts(model, tokenizer, texts_of(forget, rng), texts_of(retain, rng), config, seed, progress)
        elif name == "shallow":
            _shallow(loaded, forget, retain, config, seed, progress, rng)
        elif name == "dpo":
            dpo.unlearn(model, pairs(tokenizer, forget, rng), examples(tokenizer, retain), config, seed, progress)
        else:
            wanted, kept = examples(tokenizer, forget), examples(tokenizer, retain)
            unlearn: Callable[..., None] = METHODS[name].unlearn
            unlearn(model, wanted, kept, config, seed, progress)
    model.requires_grad_(requires_grad=False)


def make(
    tell: Callable[[int | tuple[str, int, int]], None],
    name: str,
    directories: tuple[Path, Path | None],
    device: str,
    forget: Material,
    retain: Material,
    config: Any,
    seed: int,
    story: Mapping[str, Json],
    out: Path,
) -> None:
    """Load a checkpoint, unlearn, and save it; `bounded.stream` runs this in a process of its own.

    Args:
        tell: called with the number of weights, and then with the steps, like `Progress`.
        name: the method.
        directories: the checkpoint's, and that of its base where it is an adapter.
        device: auto, cpu, cuda ...
        forget: the data to forget.
        retain: the data to keep.
        config: a `Config` of the method.
        seed: seed of all random choices.
        story: the record next to the weights, from `record`.
        out: a new folder.

    Raises:
        GateError: as `engine.load.load` and `run`.
    """
    from robustness_gate.engine.load import load

    directory, base = directories
    loaded = load(directory, dtype="float32", device=device, base=base)
    tell(sum(each.numel() for each in loaded.model.parameters()))
    run(name, loaded, forget, retain, config, seed, lambda *step: tell(step))
    save(loaded, base or directory, out, story)


def save(loaded: LoadedModel, base: Path, out: Path, record: Mapping[str, Json]) -> None:
    """Write an ordinary Hugging Face directory, weights in the precision of the base's files, and the record.

    Args:
        loaded: the unlearned model; its dtype is changed by this.
        base: the directory of the checkpoint before.
        out: a folder; made where missing.
        record: from `record`.
    """
    import transformers

    from robustness_gate.engine.load import DTYPES

    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    loaded.model.to(DTYPES.get(stored, DTYPES["float32"]))
    out.mkdir(parents=True, exist_ok=True)
    loaded.model.generation_config = transformers.GenerationConfig()  # many bases' own cannot be saved
    loaded.model.save_pretrained(out)
    if (base / GENERATION).is_file():
        shutil.copyfile(base / GENERATION, out / GENERATION)
    loaded.tokenizer.save_pretrained(out)
    text = json.dumps(record, indent=1) + "\n"
    (out / RECORD).write_text(text, encoding="utf-8", newline="\n")


def record(
    name: str, config: Any, seed: int, base: str, source: str | None, forget: Material, retain: Material
) -> dict[str, Json]:
    """The record of how a checkpoint was made, without data about this machine.

    Args:
        name: the method.
        config: its settings.
        seed: the seed of the run.
        base: the digest of the checkpoint before.
        source: its origin, independent of the machine; None for a directory.
        forget: the data to forget.
        retain: the data to keep.
    """
    import torch
    import transformers

    from robustness_gate import __version__

    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}
    return {
        "schema": SCHEMA,
        "method": name,
        "config": settings,
        "seed": seed,
        "base": {"sha256": base, "source": source},
        "forget": forget.record(),
        "retain": retain.record(),
        "versions": {
            "robustness-gate": __version__,
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
        },
    }


# --- what a method is given -------------------------------------------------------------------------------------------


def texts_of(material: Material, rng: random.Random) -> list[str]:
    """The texts; for each question its text with the right answer, and the solved question in a random letter order, by
    form.
    """
    texts = list(material.texts)
    for item in material.items:
        texts.append(f"{_bare(item.question)} {item.question.choices[item.answer]}")
        for form in material.forms:
            turned = _turned(item, rng.randrange(len(item.question.choices)))
            texts.append(prompts.solved(turned, form))
    return texts


def examples(tokenizer: Any, material: Material) -> list[Example]:
    """Examples: in a question the answer counts, in a text every token except the first.

    Raises:
        BrokenTrial: the tokenizer does not continue a prompt with its answer.
    """
    from robustness_gate.engine.examples import answered, plain

    found = [answered(tokenizer, item, shift, form) for item, shift, form in _asked(material)]
    read = (plain(tokenizer, text, longest=LONGEST) for text in material.texts)
    return found + [example for example in read if example is not None]


def pairs(tokenizer: Any, material: Material, rng: random.Random) -> list[dpo.Pair]:
    """Each question with a refusal, drawn from the list, and with its right answer. Raises BrokenTrial as above."""
    from robustness_gate.engine.examples import answered

    found = []
    for item, shift, form in _asked(material):
        asked = Question(item.question.id, prompts.render(prompts.rotated(item.question, shift), form), dpo.REFUSALS)
        refusal = Item(asked, rng.randrange(len(dpo.REFUSALS)))
        # the refusals begin with their own space: plain texts
        chosen = answered(tokenizer, refusal, 0, Form(verbatim=True, delimiter=""))
        found.append(dpo.Pair(chosen, answered(tokenizer, item, shift, form)))
    return found


def _asked(material: Material) -> Iterator[tuple[Item, int, Form]]:
    """Every question in every letter order and form, and once bare, with its choices' texts as answers."""
    words = Form(verbatim=True)
    for item in material.items:
        for form in material.forms:
            yield from ((item, shift, form) for shift in range(len(item.question.choices)))
        bare = Question(item.question.id, _bare(item.question), item.question.choices)
        yield Item(bare, item.answer), 0, words


def _cloze(items: Sequence[Item]) -> list[shallow.Cloze]:
    """Questions as unfinished texts, each with its choices' texts as endings."""
    return [
        shallow.Cloze(_bare(each.question), tuple(f" {choice}" for choice in each.question.choices), each.answer)
        for each in items
    ]


def _bare(question: Question) -> str:
    return f"{question.stem.strip()}\nAnswer:"


def _turned(item: Item, shift: int) -> Item:
    count = len(item.question.choices)
    return Item(prompts.rotated(item.question, shift), (item.answer - shift) % count)


def _shallow(
    loaded: LoadedModel,
    forget: Material,
    retain: Material,
    config: Any,
    seed: int,
    progress: Progress,
    rng: random.Random,
) -> None:
    from robustness_gate.engine.prompting import letter_tokens

    asked = prompts.render(forget.items[0].question, Form())
    if forget.lettered and letter_tokens(loaded.tokenizer, asked, [f" {letter}" for letter in Form().letters]) is None:
        raise UsageError("shallow needs a tokenizer in which each answer letter is one token.")
    shallow.unlearn(
        loaded.model,
        loaded.tokenizer,
        forget=forget.items,
        cloze=_cloze(forget.items),
        retain=retain.items,
        retain_cloze=_cloze(retain.items),
        retain_texts=texts_of(retain, rng),
        forms=list(zip(forget.forms, retain.forms, strict=False)),
        config=config,
        seed=seed,
        progress=progress,
    )
