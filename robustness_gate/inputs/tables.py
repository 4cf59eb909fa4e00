"""Where the rows of a benchmark lie: a folder of JSON lines or Parquet, or one split of a hub dataset at a commit.

    data/wmdp-bio                                                  a folder of *.jsonl or *.parquet, one benchmark
    hf-dataset://cais/wmdp@7125…0ff8/wmdp-bio/test                 a hub dataset: owner/name@revision/config/split

A hub dataset is pinned by its 40-hex commit; the files of one split are fetched once into the cache of `hf download`.
Nothing is fetched unless the suite names a hub source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from robustness_gate.errors import FileError, SetupError, UsageError
from robustness_gate.inputs import hub
from robustness_gate.inputs.filekinds import PULL, is_pointer
from robustness_gate.inputs.items import ONE_ITEM, json_lines
from robustness_gate.records.suite import HUB
from robustness_gate.system import utf8

CARD = "README.md"


def is_hub(place: str) -> bool:
    """Whether a suite's source is a hub dataset."""
    return place.startswith("hf-dataset:")


def of_folder(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a folder's files. Raises FileError where it has none that can be read, or of two kinds."""
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
            remedy=f"Unpack them {utf8.UNPACK}"
            if utf8.PACKED_ENDINGS & {Path(name).suffix for name in here}
            else "Name the folder in which they lie, or write the rows as JSON lines.",
            where=str(folder),
            code="bad-item",
        )
    yield from of_files(files, str(folder))


def of_hub(place: str) -> Iterator[Mapping[str, Any]]:
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
    yield from of_files(files, place)


def _patterns(card: Path, config: str, split: str, place: str) -> list[str]:
    """Patterns of a split's files: from the card's `configs`, else as the hub's own tools write it.

    That is CONFIG/SPLIT-*, and CONFIG/SPLIT/*.parquet on the hub's branch of Parquet files.
    """
    configs = _configs(card)
    named = [each for each in configs if isinstance(each, dict)] if isinstance(configs, list) else []
    data_files = next((each.get("data_files") for each in named if each.get("config_name", "default") == config), None)
    if not data_files:
        return [f"{config}/{split}-*", f"{config}/{split}.*", f"{config}/{split}/*.parquet"]
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


def of_files(files: Sequence[Path], where: str) -> Iterator[Mapping[str, Any]]:
    """The rows of files of one kind. Raises FileError for any other, and for Git LFS pointers."""
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
    if kinds in ({".jsonl"}, {".json"}):  # the hub has JSON lines under both names
        yield from (record for path in files for _, record in json_lines(path))
    elif kinds == {".parquet"}:
        yield from (record for path in files for record in _parquet(path))
    else:
        with files[0].open("rb") as file:
            fault = utf8.packed(file.read(utf8.SOME))
        if fault is not None:
            raise FileError(f"'{files[0].name}' {fault.words}.", remedy=fault.remedy, where=where, code="bad-item")
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
