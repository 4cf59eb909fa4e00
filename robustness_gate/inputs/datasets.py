"""Sources of questions and texts, and their division between attacker and verdict.

A suite names a source in one of four ways:

    organism:forget.verdict.jsonl                                  shipped with the package
    data/items.jsonl                                               JSON lines, relative to the suite
    data/wmdp-bio                                                  a folder of *.jsonl or *.parquet, one benchmark
    hf-dataset://cais/wmdp@7125…0ff8/wmdp-bio/test                 a hub dataset: owner/name@revision/config/split

A hub dataset is pinned by its 40-hex commit; the files of one split are fetched once into the cache of `hf download`.
The files are Parquet or JSON lines, the rows have the shape of WMDP and MMLU: `question`, `choices`, `answer` (index
from 0); other columns are ignored and a missing `id` is made from the text. Two choices of a row may be the same, and
either then counts as the other (`Item.right`); in a single JSON-lines file, which is the user's own, that is refused.
Nothing is fetched unless the suite names a hub source. A task of the kind `lm_eval` reads the same four with rows of
any shape: its YAML makes the questions (`robustness_gate.tasks.lm_eval`).

*Words.* Questions and choices are text. Numbers are converted to text, as many tables contain them; in a single
JSON-lines file they are refused, because there the user can write `2.50` in quotes and JSON would read `2.5`. A null,
NaN, a truth value and bytes are refused with their row: they are conversion errors of text (`None`, `nan`, `no`).
Training texts have one column, `text`, in any of the four; other columns are ignored.

*Roles.* A benchmark without a split for attackers is divided by keyed hash: items sorted by HMAC-SHA256 of their text,
the first share is `dev`, the rest are verdict items. The key's name is in suite and report; the key itself comes from
the environment, so that a vendor cannot know the verdict items in advance. The name `public` is its own key.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from robustness_gate.errors import FileError, SetupError, UsageError
from robustness_gate.inputs import hub
from robustness_gate.inputs.digest import opened
from robustness_gate.inputs.filekinds import POINTER, PULL, is_pointer
from robustness_gate.inputs.items import (
    MAX_CHOICES,
    ONE_ITEM,
    columns_of,
    items_digest,
    json_lines,
    kind_of,
    load_items,
    load_texts,
    text_of,
)
from robustness_gate.records.questions import Item, Question
from robustness_gate.records.suite import Roles
from robustness_gate.system import utf8

HUB = re.compile(
    r"^hf-dataset://(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})/(?P<config>[\w.-]+)/(?P<split>[\w.-]+)$"
)
CARD = "README.md"
KEY_VARIABLE = "ROBUSTNESS_GATE_ROLE_KEY_"


REPEATS = 0.05
"""Share of a task's items that may repeat an earlier one: public benchmarks contain a few."""


class Repeats(NamedTuple):
    """Items that repeat an earlier item's question."""

    number: int
    first: tuple[str, str]
    """The ids of the first such pair, the earlier one first."""


class Divided(NamedTuple):
    """A benchmark's items by role."""

    verdict: tuple[Item, ...]
    dev: tuple[Item, ...]
    train: tuple[Item, ...]


def read_items(place: str | Path) -> tuple[Item, ...]:
    """Items from a JSON-lines file, a folder, or a hub dataset.

    Raises:
        FileError: the source does not contain such items.
        UsageError: a hub reference that is not pinned by its commit.
        SetupError: huggingface_hub or pyarrow is needed and not installed.
    """
    if isinstance(place, Path) and place.is_file():
        return load_items(place)
    return of_rows(read_rows(place), place)


def read_rows(place: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a source, each with its place for messages. Raises as `read_items` does."""
    if isinstance(place, Path) and place.is_file():
        yield from ((f"{place}:{line}", row) for line, row in json_lines(place))
    else:
        rows = _folder(place) if isinstance(place, Path) else _hub(place)
        yield from ((f"{place}, row {number}", row) for number, row in enumerate(rows, start=1))


def of_rows(rows: Iterable[tuple[str, Mapping[str, Any]]], place: str | Path) -> tuple[Item, ...]:
    """Items from rows of the shape of WMDP and MMLU. Raises FileError for other rows."""
    return distinct((_item(row, where) for where, row in rows), place)


def distinct(found: Iterable[Item], place: str | Path) -> tuple[Item, ...]:
    """The items; repeated ids become ID-2 and so on. Raises FileError where there is none."""
    items: dict[str, Item] = {}
    for item in found:
        options = len(item.question.choices)
        if items and options != len(next(iter(items.values())).question.choices):
            raise FileError(
                f"the item '{item.question.id}' has another number of choices than the first one.",
                remedy=ONE_ITEM,
                where=str(place),
                code="bad-item",
            )
        id_, copies = item.question.id, 1
        while id_ in items:  # public benchmarks repeat rows; each counts, as in other evaluations
            copies += 1
            id_ = f"{item.question.id}-{copies}"
        items[id_] = Item(Question(id_, item.question.stem, item.question.choices), item.answer)
    if not items:
        raise FileError("holds no items.", remedy=ONE_ITEM, where=str(place), code="bad-item")
    return tuple(items.values())


def read_texts(place: str | Path) -> tuple[str, ...]:
    """Training texts from a JSON-lines file, a folder, or a hub dataset: the column `text`.

    In a folder or a dataset a text of white space alone is left out; in a single file, which is the user's own, it is
    refused.

    Raises:
        FileError: there is no such column, or it contains something other than text.
        UsageError, SetupError: as `read_items` does.
    """
    if isinstance(place, Path) and place.is_file():
        return load_texts(place)
    texts = tuple(text for where, row in read_rows(place) if (text := text_of(row, where)).strip())
    if not texts:
        raise FileError("holds no texts.", remedy="Name the column 'text'.", where=str(place), code="bad-item")
    return texts


def read_ids(place: str | Path) -> tuple[str, ...]:
    """One id in each line; blank lines and lines that start with # are ignored. Raises FileError if there is none."""
    try:
        with opened(Path(place)) as file:
            raw = file.read()
    except OSError as error:
        raise FileError(f"cannot be read: {error}.", remedy=ONE_ITEM, where=str(place), code="bad-item") from None
    if fault := utf8.fault(raw):
        raise FileError(fault.words, remedy=fault.remedy, where=str(place), code="not-utf8")
    if raw.startswith(POINTER):
        raise FileError("is a Git LFS pointer, not the file", remedy=PULL, where=str(place), code="bad-item")
    ids = tuple(line.strip() for line in raw.decode().splitlines() if line.strip() and not line.startswith("#"))
    if not ids:
        raise FileError("names no items.", remedy="Write one id a line.", where=str(place), code="bad-item")
    return ids


def is_hub(place: str) -> bool:
    """Whether a suite's source is a hub dataset."""
    return place.startswith("hf-dataset:")


def divide(items: Sequence[Item], roles: Roles) -> Divided:
    """Split by keyed hash: round(share x n) items are dev, then train likewise, independent of their order in the file.

    Items with the same text have the same role, so that no copy of a verdict item is visible to an attacker.

    Raises:
        UsageError: the key's variable is not set.
    """
    key = role_key(roles.key)

    def rank(words: tuple[str, str]) -> bytes:
        return hmac.new(key, "\n".join(words).encode(), hashlib.sha256).digest()

    twins: dict[tuple[str, str], list[str]] = {}
    for item in items:
        twins.setdefault(words_of(item), []).append(item.question.id)
    dev, train = set[str](), set[str]()
    for words in sorted(twins, key=rank):
        for part, share in ((dev, roles.dev), (train, roles.train)):
            if len(part) + len(twins[words]) <= round(share * len(items)):
                part |= set(twins[words])
                break
    return Divided(
        tuple(item for item in items if item.question.id not in dev | train),
        tuple(item for item in items if item.question.id in dev),
        tuple(item for item in items if item.question.id in train),
    )


def words_of(item: Item) -> tuple[str, str]:
    """A question by its stem and right answer, in lower case with single spaces; no attacker may see it."""
    stem, right = (" ".join(text.lower().split()) for text in (item.question.stem, item.question.choices[item.answer]))
    return stem, right


def repeats(items: Sequence[Item]) -> Repeats | None:
    """Items that repeat an earlier one's question, apart from white space and case; None where none does.

    The same stem with the same choices in any order, or with the same right answer and other wrong ones, is the same
    question. Its answers are one observation, and a bound that counts them separately is invalid.
    """
    seen = dict[tuple[str, str | frozenset[str]], str]()
    count, first = 0, None
    for item in items:
        stem, right = words_of(item)
        choices = frozenset(" ".join(each.lower().split()) for each in item.question.choices)
        asked: list[tuple[str, str | frozenset[str]]] = [(stem, right), (stem, choices)]
        earlier = next((seen[each] for each in asked if each in seen), None)
        if earlier is not None:
            count, first = count + 1, first or (earlier, item.question.id)
        for each in asked:
            seen.setdefault(each, item.question.id)
    return Repeats(count, first) if first else None


def quoted(texts: Sequence[str], items: Sequence[Item]) -> tuple[int, Item] | None:
    """The first text, counted from 1, that contains an item's stem and its right answer, and that item; None where none
    does.

    Both must occur word for word, apart from case, spaces and punctuation. An attacker may have a text that states the
    fact in other words, but not the question with its answer. The stem of an lm-evaluation-harness task is its whole
    prompt, so that a part of it is not found.
    """
    by_start: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        by_start.setdefault(_words(item.question.stem)[:3], []).append(item)
    lengths = {len(start) for start in by_start}
    for number, text in enumerate(texts, start=1):
        words = _words(text)
        whole = f" {' '.join(words)} "
        starts = {words[at : at + length] for length in lengths for at in range(len(words))}
        for item in (each for start in sorted(starts & by_start.keys()) for each in by_start[start]):
            asked = (item.question.stem, item.question.choices[item.answer])
            if all(f" {' '.join(_words(part))} " in whole for part in asked if _words(part)):
                return number, item
    return None


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def role_key(name: str) -> bytes:
    """The secret behind a key's name. `public` and `public-2`, `public-3` ... are not secret: the division is the same
    everywhere.
    """
    if re.fullmatch(r"public(-[2-9])?", name):
        return name.encode()
    variable = KEY_VARIABLE + re.sub(r"\W", "_", name).upper()
    secret = os.environ.get(variable, "")
    if not secret:
        raise UsageError(
            f"the role key '{name}' is not known here.",
            remedy=f"Set {variable}, or use the key 'public'.",
            code="no-role-key",
        )
    return secret.encode()


def keep(items: Sequence[Item], ids: Sequence[str], where: str) -> tuple[Item, ...]:
    """The items with these ids (a robust subset). Raises FileError for an id that is not among them."""
    known = {item.question.id for item in items}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise FileError(
            f"names '{unknown[0]}', which is not among the items ({len(unknown)} such).",
            remedy="Take it out of the subset, or find out who changed the items.",
            where=where,
            code="unknown-item",
        )
    wanted = set(ids)
    return tuple(item for item in items if item.question.id in wanted)


def question_hidden(items: Sequence[Item]) -> tuple[Item, ...]:
    """The same choices without the question: accuracy on them alone is not knowledge of the domain."""
    return tuple(
        Item(Question(item.question.id, "Which of these is right?", item.question.choices), item.answer)
        for item in items
    )


def id_of(stem: str, choices: Sequence[str]) -> str:
    """An id for an item without one: 16 hex digits of the SHA-256 of its text, key left out."""
    return items_digest([Item(Question("", stem, tuple(choices)), 0)])[:16]


def _folder(folder: Path) -> Iterator[Mapping[str, Any]]:
    if folder.exists() and not folder.is_dir():
        raise FileError(
            "is a pipe or a device, neither a file nor a folder.",
            remedy="Write the rows into a file, and name that: they are read more than once.",
            where=str(folder),
            code="bad-item",
        )
    if not folder.is_dir():
        raise FileError(
            "there is no such file or folder.", remedy="Check the path.", where=str(folder), code="bad-item"
        )
    files = sorted([*folder.glob("*.jsonl"), *folder.glob("*.parquet")])
    if not files:
        here = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
        found = f"there are {', '.join(here[:5])}{' and others' if len(here) > 5 else ''}" if here else "it is empty"
        raise FileError(
            f"holds no *.jsonl or *.parquet file: {found}.",
            remedy="Name the folder in which they lie, or write the rows as JSON lines.",
            where=str(folder),
            code="bad-item",
        )
    yield from _rows(files, str(folder))


def _hub(place: str) -> Iterator[Mapping[str, Any]]:
    """Rows of exactly that commit's files. `datasets.load_dataset` is not used: it prefers a folder OWNER/NAME of the
    working directory, and without network it uses the last cached commit.
    """
    found = HUB.match(place)
    if not found:
        raise UsageError(
            f"'{place}' does not name a dataset by its commit.",
            remedy="Write hf-dataset://OWNER/NAME@40-HEX-COMMIT/CONFIG/SPLIT: a branch may change under a verdict.",
            code="moving-tag",
        )
    fetch = partial(hub.snapshot, "dataset", found["name"], found["revision"], where=place, refusal=FileError)
    patterns = _patterns(fetch([CARD]) / CARD, found["config"], found["split"], place)
    folder = fetch([CARD, *patterns])
    inside = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = [path for path in inside if any(fnmatchcase(path.relative_to(folder).as_posix(), p) for p in patterns)]
    if not files:
        raise FileError(
            f"that commit has no file for the split '{found['split']}' of '{found['config']}', or it is not in the "
            f"cache (looked for {', '.join(patterns)}).",
            remedy="Check both names on the dataset's page.",
            where=place,
            code="missing-file",
        )
    yield from _rows(files, place)


def _patterns(card: Path, config: str, split: str, place: str) -> list[str]:
    """Patterns of a split's files: from the card's `configs`, else CONFIG/SPLIT-*, as the hub's own tools write it."""
    configs = _configs(card)
    named = [each for each in configs if isinstance(each, dict)] if isinstance(configs, list) else []
    data_files = next((each.get("data_files") for each in named if each.get("config_name", "default") == config), None)
    if not data_files:
        return [f"{config}/{split}-*", f"{config}/{split}.*"]
    # a path, several paths (both mean the split `train`), or either of them for each split
    by_split = isinstance(data_files, list) and all(isinstance(each, dict) for each in data_files)
    splits = data_files if by_split else [{"path": data_files}]
    paths = [each.get("path") for each in splits if each.get("split", "train") == split]
    flat = [path for some in paths for path in (some if isinstance(some, list) else [some])]
    if not flat or not all(isinstance(path, str) for path in flat):
        raise FileError(
            f"its card names no files for the split '{split}' of '{config}'.",
            remedy="Check both names on the dataset's page.",
            where=place,
            code="missing-file",
        )
    return [str(path).removeprefix("./") for path in flat]


@cache  # a suite may use many of MMLU's 57 configs, and a commit's card does not change
def _configs(card: Path) -> Any:
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        head = text.removeprefix("---").split("\n---", 1)[0] if text.startswith("---") else ""
        header = yaml.load(head, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        raise FileError(
            "the dataset's card cannot be read.", remedy="Fetch it again.", where=str(card), code="unreadable"
        ) from None
    return header.get("configs") if isinstance(header, dict) else None


def _rows(files: Sequence[Path], where: str) -> Iterator[Mapping[str, Any]]:
    kinds = {path.suffix for path in files}
    for path in files:
        if is_pointer(path):
            raise FileError(
                f"'{path.name}' is a Git LFS pointer, not the file.",
                remedy=PULL,
                where=where,
                code="bad-item",
            )
    if len(kinds) > 1:
        raise FileError(
            "holds both *.jsonl and *.parquet: one benchmark, one kind of file.",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    if kinds == {".jsonl"}:
        yield from (record for path in files for _, record in json_lines(path))
    elif kinds == {".parquet"}:
        yield from (record for path in files for record in _parquet(path))
    else:
        raise FileError(
            f"'{files[0].name}' is neither JSON lines nor Parquet.",
            remedy="Give the rows as *.jsonl.",
            where=where,
            code="bad-item",
        )


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise SetupError(
            "the library `pyarrow` is not installed.", remedy="Install robustness-gate[run], or give JSON lines."
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if twice := next((name for name in columns if columns.count(name) > 1), ""):
                raise FileError(
                    f"has the column '{twice[:40]}' twice.", remedy="Keep one.", where=str(path), code="bad-item"
                )
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        fault = utf8.fault(error.object, first=False) or utf8.Fault("is not UTF-8", "Write it as UTF-8.")
        raise FileError(f"a text in it {fault.words}", remedy=fault.remedy, where=str(path), code="not-utf8") from None
    except (OSError, pyarrow.ArrowException) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FileError(
            f"cannot be read as Parquet: {first[:200]}.", remedy="Is it complete?", where=str(path), code="bad-item"
        ) from None


def _item(row: Mapping[str, Any], where: str) -> Item:
    for name in ("question", "choices", "answer"):
        if name not in row:
            raise FileError(
                f"the column '{name}' is missing: {columns_of(row)}.",
                remedy="WMDP's and MMLU's have it; rows of another shape are read by a task of the kind 'lm_eval'.",
                where=where,
                code="bad-item",
            )
        if row[name] is None:
            raise FileError(f"'{name}' is null.", remedy=ONE_ITEM, where=where, code="bad-item")
    if not isinstance(row["choices"], (list, tuple)):
        raise FileError("'choices' must be a list.", remedy=ONE_ITEM, where=where, code="bad-item")
    stem, answer = words(row["question"], "'question'", where), row["answer"]
    choices = [words(each, f"'choices[{number}]'", where) for number, each in enumerate(row["choices"])]
    if not stem.strip() or not 2 <= len(choices) <= MAX_CHOICES or not all(each.strip() for each in choices):
        raise FileError(
            f"a question and two to {MAX_CHOICES} choices are needed, none empty.",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise FileError(
            f"'answer' must be an index from 0 to {len(choices) - 1}, found {answer!r}.",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    id_ = row.get("id")
    return Item(Question(words(id_, "'id'", where) if id_ else id_of(stem, choices), stem, tuple(choices)), answer)


def words(value: Any, name: str, where: str) -> str:
    """A text, or a finite number as text. Raises FileError for everything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, str) or whole or (isinstance(value, float) and math.isfinite(value))):
        remedy = "Decode them." if isinstance(value, bytes) else "Write the words themselves"
        if not isinstance(value, bytes):
            remedy += " (pandas makes None and NaN of words: read_csv(dtype=str, keep_default_na=False))."
        raise FileError(f"{name} is {kind_of(value)}, not text.", remedy=remedy, where=where, code="bad-item")
    return str(value)
