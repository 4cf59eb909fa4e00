"""Checks before a checkpoint is read: links, names, pickles, code, pointers, templates."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import chat_template, filekinds, jsonfiles
from robustness_gate.inputs.checkpoint.place import Survey
from robustness_gate.inputs.filekinds import ADAPTER, INDEX, PULL
from robustness_gate.system import utf8

MAX_DEPTH = 16
MAX_FILES = 10_000
IGNORED = {
    ".git": "version control, never read by a loader",
    ".cache/huggingface": "download records of a hub client, never read by a loader",
}
"""Folders of a directory that are skipped."""
SHOWN = 5
"""Maximum number of names in an error message."""

CACHED = re.compile(
    r"/(?P<kind>model|dataset)s--(?P<name>[^/]+)(/snapshots(/(?P<commit>[0-9a-f]{40}))?|/blobs|/refs)?$"
)
"""A repository in the cache of huggingface_hub, or a folder of it: a commit's snapshot is links into `blobs`."""


def files_of(directory: Path, links_into: Path | None = None) -> list[Path]:
    """Every file of a checkpoint, sorted, after links, pipes and unsafe names are refused. Raises CheckpointError."""
    if not directory.exists():
        raise CheckpointError(
            "no such checkpoint directory",
            remedy="Check the path; a model on the hub is hf://OWNER/NAME@COMMIT.",
            where=str(directory),
        )
    if not directory.is_dir():
        raise CheckpointError("a checkpoint is a directory, this is a file", where=str(directory))
    found: list[Path] = []
    allowed = _inside(directory) if links_into is None else _in_cache(links_into)
    for folder, names, files in os.walk(directory):
        here = Path(folder).relative_to(directory)
        names[:] = sorted(name for name in names if (here / name).as_posix() not in IGNORED)
        if len(here.parts) > MAX_DEPTH or len(found) > MAX_FILES:
            raise CheckpointError(
                f"it has folders in folders more than {MAX_DEPTH} deep, or more than {MAX_FILES:,} files",
                remedy="Point to a directory made by save_pretrained.",
                where=str(directory),
            )
        if links_into is not None:
            files = [each for each in files if _may_be_read((here / each).as_posix())]
        for each in [*names, *files]:
            if (Path(folder) / each).is_symlink():
                _refuse_link(directory, Path(folder) / each, allowed, resolved=links_into is not None)
        found += [Path(folder) / each for each in files]
    for path in found:
        _refuse_odd(directory, path)
    if not found:
        raise CheckpointError("the directory is empty", remedy="Point to a saved model.", where=str(directory))
    return sorted(found)


def _may_be_read(name: str) -> bool:
    """For a snapshot in the hub's cache, which may hold files of any program."""
    return filekinds.is_read(name) or name == INDEX or ("/" not in name and name.endswith(".safetensors"))


def _inside(directory: Path) -> Callable[[Path], bool]:
    """A link may point only to a file inside the checkpoint."""
    return lambda link: link.resolve().is_relative_to(directory.resolve())


def _in_cache(blobs: Path) -> Callable[[Path], bool]:
    """A snapshot's link must point directly to one blob of its own repository.

    That blob may be a link itself: huggingface_hub keeps one copy of a file for all repositories of a cache, under
    `blobs/` of the cache and named by its hash.
    """
    here = blobs.parent.resolve() / blobs.name  # the folder itself must not be a link either
    shared = blobs.parent.parent.resolve() / "blobs"

    def allowed(link: Path) -> bool:
        first = link.parent / link.readlink()
        if first.parent.resolve() != here:
            return False
        target = first.resolve()
        return target.parent == here or (
            target.parent == shared / target.name[:2] and re.fullmatch(r"[0-9a-f]{64}", target.name) is not None
        )

    return allowed


def _refuse_link(directory: Path, link: Path, allowed: Callable[[Path], bool], *, resolved: bool) -> None:
    try:
        inside = link.resolve().is_file() and allowed(link)
    except (OSError, RuntimeError):  # a circular link
        inside = False
    if not inside and not resolved:
        refuse_cache(directory)
    if not inside:
        raise CheckpointError(
            f"'{link.relative_to(directory)}' is a link that leaves the checkpoint or leads nowhere",
            remedy="Copy the file itself into the directory.",
            where=str(directory),
        )


def refuse_cache(directory: Path) -> None:
    """Refuse a folder of the hub's cache, with the reference of its commit in the remedy."""
    found = CACHED.search(directory.resolve().as_posix())
    if found is None:
        return
    if found["kind"] == "dataset":
        raise CheckpointError(
            "this is a dataset in the hub's cache, and no model", remedy="A suite names it.", where=str(directory)
        )
    what = "a snapshot in the hub's cache, whose files are links" if found["commit"] else "a folder of the hub's cache"
    owner, dashes, name = found["name"].partition("--")
    commit = found["commit"] or "COMMIT (a folder's name under snapshots/)"
    remedy = f"Give hf://{owner}/{name}@{commit}: it is found there, offline too."
    if not dashes:  # an old name without an owner cannot be a reference
        remedy = "Copy what its links lead to into a directory of its own: cp -rL SNAPSHOT DST."
    raise CheckpointError(f"this is {what}", remedy=remedy, where=str(directory))


def refuse_names(directory: Path, paths: list[Path]) -> None:
    """Refuse names that mean different files, or collide, on another machine."""
    seen: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(directory)
        if not name.as_posix().isprintable() or "\\" in name.as_posix():
            raise CheckpointError(
                f"the name {name.as_posix()!r} holds a backslash, or what cannot be printed",
                remedy="Rename the file.",
                where=str(directory),
            )
        for part in (name, *name.parents):
            other = seen.setdefault(unicodedata.normalize("NFKC", part.as_posix()).casefold(), part)
            if other != part:
                raise CheckpointError(
                    f"'{other.as_posix()}' and '{part.as_posix()}' are one name where case or accents do not count",
                    remedy="Rename one of them, or remove it.",
                    where=str(directory),
                )


def _refuse_odd(directory: Path, path: Path) -> None:
    """Refuse pipes, which may block a reader for ever, and names that are not text, which a manifest cannot hold."""
    name = path.relative_to(directory).as_posix()
    if not path.is_file():
        raise CheckpointError(f"'{name}' is not a regular file", remedy="Remove it.", where=str(directory))
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the name {name!r} is not UTF-8", remedy="Rename the file.", where=str(directory)
        ) from None


def refuse_unsafe(directory: Path, name: str) -> None:
    """Check one file that is read, apart from weights."""
    path = directory / name
    refuse_pointers(directory, [name])
    with path.open("rb") as file:
        if filekinds.begins_like_weights(file.read(64), path.stat().st_size):
            raise CheckpointError(
                f"'{name}' begins like a pickle or an archive of them, or like weights of another format",
                remedy="Nothing of that kind is read under this name; remove it.",
                where=str(directory),
            )


def templates_in(directory: Path, name: str) -> Iterator[str]:
    """The chat templates in a file that is read; a JSON file is checked here too."""
    path = directory / name
    if path.suffix.lower() == ".json":
        yield from chat_template.texts_in(jsonfiles.read(directory, path))
    if path.suffix.lower() == ".jinja":
        yield _text(directory, path)


def refuse_named_files(directory: Path, *, whole: bool) -> None:
    """Refuse files that tokenizer_config.json names: transformers opens them in any folder if there is no other.

    With a tokenizer.json they have no effect, and are often a path on another machine; a file of that name here is
    still refused.
    """
    for key, value in jsonfiles.read(directory, directory / "tokenizer_config.json").items():
        names = key in ("vocab", "merges") or (key.endswith("_file") and key != "special_tokens_map_file")
        if names and isinstance(value, str) and value and not (whole and not _exists(directory, value)):
            raise CheckpointError(
                f"tokenizer_config.json names a file of its own ({key}: {value[:80]!r}), and the manifest does not",
                remedy="Save the tokenizer anew (save_pretrained), or remove the key.",
                where=str(directory),
            )


def _exists(directory: Path, name: str) -> bool:
    try:
        return Path(name).exists() or (directory / name).exists()
    except (OSError, ValueError):  # too long, or with a null: no file has such a name
        return False


def refuse_pointers(directory: Path, names: Sequence[str]) -> None:
    """Raises CheckpointError where one of these files is a Git LFS pointer."""
    for name in names:
        if filekinds.is_pointer(directory / name):
            raise CheckpointError(
                f"'{name}' is a Git LFS pointer, not the file",
                remedy=PULL,
                where=str(directory),
            )


def refuse_beside(directory: Path, found: Survey) -> None:
    """Refuse other files in a directory that another loader would read or run."""
    for name in found.code:
        inside = filekinds.CODE_FOLDER in Path(name).parts[:-1]
        raise CheckpointError(
            f"'{name}' lies in {filekinds.CODE_FOLDER}/, from which code is imported"
            if inside
            else f"'{name}' is code",
            remedy=f"The gate never runs a checkpoint's code; remove it, or {COPY}.",
            where=str(directory),
        )
    for name in found.nothing:
        if Path(name).name == ADAPTER:
            raise CheckpointError(
                f"'{name}' makes a loader fetch weights that the manifest does not name",
                remedy="Merge the adapter into the model (peft's merge_and_unload) and save that.",
                where=str(directory),
            )
    if found.weights:
        names = ", ".join(f"'{name}'" for name in found.weights[:SHOWN])
        more = f" and {len(found.weights) - SHOWN} more" if len(found.weights) > SHOWN else ""
        raise CheckpointError(
            f"beside what is read lie other weights, or files that a loader may take for weights: {names}{more}",
            remedy=f"Remove them, or {COPY}.",
            where=str(directory),
        )


COPY = "write a clean directory of what is read: robustness-gate checkpoint copy SRC DST"


def check_template(directory: Path, path: Path, text: str, characters: int) -> None:
    """Parse one template, and add its characters to those of earlier ones."""
    much = characters > chat_template.MAX_CHARACTERS >= len(text)
    many = f"makes them more than {chat_template.MAX_CHARACTERS:,} characters together"
    if fault := many if much else chat_template.fault(text):
        raise CheckpointError(
            f"the chat template in '{path.relative_to(directory).as_posix()}' {fault}",
            remedy="Remove it (the gate then asks in plain text), or ask its author.",
            where=str(directory),
        )


def _text(directory: Path, path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(chat_template.MAX_CHARACTERS + 1)
    except ValueError:
        with path.open("rb") as file:
            fault = utf8.fault(file.read(chat_template.MAX_CHARACTERS)) or utf8.Fault(
                "is not UTF-8", "Save it as UTF-8."
            )
        raise CheckpointError(
            f"'{path.relative_to(directory).as_posix()}' {fault.words}", remedy=fault.remedy, where=str(directory)
        ) from None
