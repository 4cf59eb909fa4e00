"""The outputs of one run: ours are sent, those of plug-ins are sent or written. None can change the report.

A publisher of others gets a copy of the report, and the files of the run are as before when it has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustness_gate import publish
from robustness_gate.errors import GateError, PlanError
from robustness_gate.records.encode import decode, encode
from robustness_gate.report.record import Report
from robustness_gate.system import writing


@contextlib.contextmanager
def kept(*folders: Path) -> Iterator[None]:
    """A block in which publishers run: afterwards the files in these folders are as they were.

    Raises:
        PlanError: a publisher changed one; it is written again.
    """
    before = {path: path.read_bytes() for folder in folders for path in sorted(folder.iterdir()) if path.is_file()}
    yield
    changed = [path for path, raw in before.items() if not path.is_file() or path.read_bytes() != raw]
    for path in changed:
        writing.whole(path, before[path])
    if changed:
        raise PlanError(
            f"a publisher changed or removed '{changed[0].name}'; it was written again as it was.",
            remedy="Leave its --output out.",
            where=str(changed[0].parent),
            code="broken-plugin",
        )


def send(names: Sequence[str], made: Report, sending: publish.Sending) -> tuple[str | None, tuple[str, ...]]:
    """Send the report with our publishers and the named plug-ins'. Returns the first destination, and warnings.

    Raises:
        PlanError: a plug-in cannot be imported, or failed otherwise than by `NotSent`.
    """
    places, warnings = [], []
    for module in publish.ours("SENDS"):
        try:
            places.append(module.send(made, sending))
        except publish.NotSent as error:
            warnings.append(error.message)
    for name in names:
        module = publish.load(name)
        if not hasattr(module, "send"):
            continue
        try:
            with _publishing(name):
                place = module.send(_copy(made), sending)
        except publish.NotSent as error:
            warnings.append(error.message)
            continue
        if place is not None and not isinstance(place, str):
            raise _broken_publisher(name, "returned a place that is no text")
        places.append(place)
    return next((place for place in places if place), None), tuple(warnings)


def write(names: Sequence[str], made: Report, folder: Path) -> None:
    """Write the files of the named plug-ins; they are imported here, after the report is written.

    Raises:
        PlanError: a plug-in cannot be imported, or returned nothing that can be written.
    """
    for name in names:
        module = publish.load(name)
        if not hasattr(module, "render"):
            continue
        with _publishing(name):
            rendered = publish.as_bytes(module.render(_copy(made)))
            file = f"{name.partition('/')[0]}.{module.FILE}"
        if publish.PLAIN.fullmatch(file) is None or not isinstance(rendered, bytes):
            raise _broken_publisher(name, "made no file, or one of no plain name")
        writing.whole(folder / file, rendered)


@contextlib.contextmanager
def _publishing(name: str) -> Iterator[None]:
    """A block of a publisher of others: whatever it raises becomes one sentence. Raises PlanError."""
    try:
        yield
    except (GateError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - code of others may fail in any way
        words = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _broken_publisher(name, words.rstrip(": ")) from None


def _broken_publisher(name: str, what: str) -> PlanError:
    return PlanError(
        f"the publisher '{name}' {what}.",
        remedy="The report is written and complete. Mend the plug-in, or leave its --output out.",
        code="broken-plugin",
    )


def _copy(made: Report) -> Report:
    """A copy, so that a publisher of others cannot change the report of which the exit code comes."""
    return decode(Report, encode(made))
