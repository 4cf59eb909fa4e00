"""The files of a plug-in: what its RECORD lists is held by content, and nothing else of it is imported.

`hold` hashes every file of a distribution once in a process, before anything of it is imported. From `serve` on, a
finder before Python's own imports its modules: from these files alone, from their sources, and only with the bytes that
were hashed. So a folder beside a module, an earlier folder of `sys.path`, bytecode, or a file that was changed in
between is never run, whatever its code says about itself. `content` compares the disk with what is held whenever it is
asked; whoever compares it with another digest does so before `serve`.

The digest covers the distribution's own files, not those of its dependencies. Files that an installer writes
(`NOT_ITS_OWN`), bytecode and scripts are left out, so that the same wheel has the same digest in every installation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    ModuleSpec,
    NamespaceLoader,
    SourceFileLoader,
)
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath
from types import CodeType, ModuleType

from robustness_gate.errors import PlanError
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.inputs.imported import SERVED, watch
from robustness_gate.records.base import Plugin
from robustness_gate.records.encode import digest_of

OURS = frozenset({"robustness_gate", "robustness_gate_organisms"})
"""Top levels of this program."""
NOT_ITS_OWN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of the .dist-info folder that the installer writes."""


@dataclass(frozen=True)
class Held:
    """A distribution as it was when this process first asked about it."""

    files: Mapping[str, tuple[Path, str]]
    """Path on the disk and sha256, by name in RECORD."""
    modules: Mapping[str, tuple[str, bool]]
    """Name in RECORD, and whether it is a package, by module."""
    points: frozenset[str]
    """The modules that its entry points name."""
    rooms: frozenset[str]
    """Top levels of all these."""
    clean: bool
    """Whether all modules of its RECORD are its own to name, and none of them had been imported before."""


_HELD: dict[str, Held] = {}
"""By distribution."""
_IMPORTED: dict[str, ModuleType] = {}
"""Every module that was imported from a held file."""


def hold(found: Distribution, points: Iterable[str], *, where: str = "") -> Held:
    """Hold a distribution's files by content; the first time in a process counts. Nothing is imported otherwise yet.

    Args:
        found: the installed distribution.
        points: the modules that its entry points name.
        where: the place of its name, for errors.

    Raises:
        PlanError: a file of its RECORD cannot be read.
    """
    name = normalised(found.name)
    if name not in _HELD:
        files, own = _files(found, where), frozenset(points)
        every = _modules(files)
        others = {room for room in {_room(each) for each in every} if _belongs_to_others(room, name)}
        modules = {each: place for each, place in every.items() if _room(each) not in others}
        rooms = frozenset(map(_room, (*own, *modules)))
        _HELD[name] = Held(files, modules, own, rooms, clean=not others and not _strangers(rooms))
    return _HELD[name]


def serve(found: Distribution, points: Iterable[str], *, where: str = "") -> None:
    """From now on the distribution's modules are imported from what is held. Raises PlanError, as `hold`."""
    watch()
    SERVED[normalised(found.name)] = hold(found, points, where=where)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def forget() -> None:
    """Hold nothing any more: for another installation in the same process, as tests have it."""
    for each in (_HELD, SERVED, _IMPORTED):
        each.clear()
    for found in (_claims, _listed_elsewhere):
        found.cache_clear()


def content(found: Distribution, points: Iterable[str], *, where: str = "") -> Plugin:
    """The distribution by name, version and content: that of its files when they were first read.

    It is not `pinned` where this does not cover its code: an editable installation, an entry point whose module RECORD
    does not list, a module that was imported by other means, or one under a name that belongs to Python, to this
    program or to another distribution.

    Raises:
        PlanError: as `hold`, or the files on the disk are others by now.
    """
    held = hold(found, points, where=where)
    now = _files(found, where)
    if changed := sorted(name for name, _ in {*held.files.items()} ^ {*now.items()}):
        raise PlanError(
            f"the plug-in '{normalised(found.name)}' changed while it was in use: '{changed[0]}' has other content.",
            remedy="Nothing may change an installed plug-in: install it again, and start again.",
            where=where,
            code="broken-plugin",
        )
    covered = held.clean and held.points <= held.modules.keys() and not _strangers(held.rooms)
    return Plugin(
        distribution=normalised(found.name),
        version=found.version,
        sha256=digest_of([[name, digest] for name, (_, digest) in sorted(held.files.items())]),
        pinned=covered and not _is_editable(found),
    )


def normalised(distribution: str) -> str:
    """A name in the normalised form of package indexes (PEP 503)."""
    return "-".join(filter(None, distribution.lower().replace("_", "-").replace(".", "-").split("-")))


# --- files ------------------------------------------------------------------------------------------------------------


def _files(found: Distribution, where: str) -> dict[str, tuple[Path, str]]:
    """Path and sha256 of every file of its own."""
    places = {PurePosixPath(each): Path(str(found.locate_file(each))) for each in found.files or ()}
    try:
        return {name.as_posix(): (path, sha256_file(path)) for name, path in places.items() if _is_its_own(name)}
    except OSError as error:
        raise PlanError(
            f"a file of the plug-in '{found.name}' cannot be read: {error.strerror or error}.",
            remedy="Install it again, into a folder and not as a zip file.",
            where=where,
            code="broken-plugin",
        ) from None


def _is_its_own(path: PurePosixPath) -> bool:
    if path.suffix == ".pyc" and "__pycache__" in path.parts:
        return False
    if path.parts[0] == "..":
        return not {"bin", "Scripts"} & {*path.parts}
    return not (path.parent.suffix == ".dist-info" and path.name in NOT_ITS_OWN)


def _modules(files: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """The modules among these files. As in Python a package comes before compiled code, and that before a source."""
    found: dict[str, tuple[str, bool]] = {}
    rank = {suffix: place for place, suffix in enumerate((*EXTENSION_SUFFIXES, ".py"))}
    for file in sorted(files, key=lambda each: (not PurePosixPath(each).name.startswith("__init__."), each)):
        path = PurePosixPath(file)
        suffix = next((each for each in rank if path.name.endswith(each)), None)
        parts = (*path.parts[:-1], path.name.removesuffix(suffix or ""))
        if suffix is None or not all(parts) or any("." in part for part in parts):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        other = found.get(name)
        if other is None or (other[1] == is_package and rank[suffix] < _rank(other[0], rank)):
            found[name] = file, is_package
    return found


def _rank(file: str, rank: Mapping[str, int]) -> int:
    return next(place for suffix, place in rank.items() if file.endswith(suffix))


def _is_editable(found: Distribution) -> bool:
    """Whether it is an editable installation, whose files may change."""
    origin = found.read_text("direct_url.json")
    try:
        return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return True  # an unreadable file counts as editable


# --- imports ----------------------------------------------------------------------------------------------------------


def _room(module: str) -> str:
    return module.partition(".")[0]


def _belongs_to_others(room: str, distribution: str) -> bool:
    """Whether a top level is Python's, this program's, or a package or module of another installed distribution.

    A namespace, whose folder has no code, may be shared.
    """
    if room in OURS or room in sys.stdlib_module_names:
        return True
    others = (each for each in _claims().get(room, ()) if normalised(each) != distribution)
    files = (each.as_posix() for name in others for each in metadata.files(name) or ())
    return any(each in (f"{room}/__init__.py", f"{room}.py") for each in files)


@cache
def _claims() -> Mapping[str, list[str]]:
    """The installed distributions by the top levels of their modules."""
    return metadata.packages_distributions()


def _strangers(rooms: Iterable[str]) -> list[str]:
    """Imported modules of these top levels that were not imported from a held file.

    A namespace package has no code: under the name of one that is held nothing else can have been imported.
    """
    inside = [(name, module) for name, module in [*sys.modules.items()] if _room(name) in set(rooms)]
    return [name for name, module in inside if _IMPORTED.get(name) is not module and not _is_namespace(name)]


def _is_namespace(name: str) -> bool:
    return any(name not in held.modules and _inside(name, held.modules) for held in SERVED.values())


def _inside(package: str, modules: Iterable[str]) -> bool:
    return any(each.startswith(f"{package}.") for each in modules)


class _Finder(MetaPathFinder):
    """Finds the modules of held distributions, and none of theirs elsewhere."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's own finders look there
        target: ModuleType | None = None,  # noqa: ARG002 - of a reload
    ) -> ModuleSpec | None:
        """The spec of a module of a held file; None for a module of others.

        Raises:
            ModuleNotFoundError: it would stand among the modules of a held distribution, and no RECORD lists it.
        """
        served = [
            (name, held) for name, held in [*SERVED.items()] if any(_room(fullname) == _room(m) for m in held.modules)
        ]
        for _, held in served:
            if fullname in held.modules:
                return _spec(fullname, held)
        if any(_inside(fullname, held.modules) for _, held in served):
            return _namespace(fullname)
        if served and not _listed_elsewhere(fullname):
            raise ModuleNotFoundError(f"the RECORD of '{served[0][0]}' lists no module '{fullname}'", name=fullname)
        return None


_FINDER = _Finder()


@cache
def _listed_elsewhere(fullname: str) -> bool:
    """Whether another installed distribution, with which a plug-in shares a namespace, has a module."""
    others = (each for each in _claims().get(_room(fullname), ()) if normalised(each) not in SERVED)
    return any(
        fullname in every or _inside(fullname, every)
        for every in (_modules([each.as_posix() for each in metadata.files(name) or ()]) for name in others)
    )


def _spec(fullname: str, held: Held) -> ModuleSpec | None:
    file, is_package = held.modules[fullname]
    path, digest = held.files[file]
    loader: SourceFileLoader | ExtensionFileLoader
    loader = (_Source if path.suffix == ".py" else _Compiled)(fullname, str(path))
    _DIGESTS[str(path)] = digest
    return importlib.util.spec_from_file_location(
        fullname, path, loader=loader, submodule_search_locations=[str(path.parent)] if is_package else None
    )


def _namespace(fullname: str) -> ModuleSpec:
    """A folder without code, here and wherever else on `sys.path` there is one of that name."""
    places = [str(place) for place in (Path(each, *fullname.split(".")) for each in sys.path) if place.is_dir()]
    loader = NamespaceLoader(fullname, places, lambda *_: None)
    spec = ModuleSpec(fullname, loader, is_package=True)
    spec.submodule_search_locations = vars(loader)["_path"]  # the kind of path that importlib.resources reads
    return spec


_DIGESTS: dict[str, str] = {}
"""The sha256 of each held file that may be imported, by path."""


def _refuse_changed(path: str, raw: bytes) -> None:
    if hashlib.sha256(raw).hexdigest() != _DIGESTS[path]:
        raise ImportError(f"'{path}' changed since it was hashed", path=path)


class _Source(SourceFileLoader):
    """Compiles the bytes that were hashed; neither reads nor writes bytecode."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - a loader of one module
        """The code of the held source."""
        raw = Path(self.path).read_bytes()
        _refuse_changed(self.path, raw)
        code: CodeType = self.source_to_code(raw, self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        _IMPORTED[module.__name__] = module
        super().exec_module(module)


class _Compiled(ExtensionFileLoader):
    """Loads compiled code after its bytes were compared."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, not yet run."""
        _refuse_changed(self.path, Path(self.path).read_bytes())
        module = super().create_module(spec)
        _IMPORTED[spec.name] = module
        return module
