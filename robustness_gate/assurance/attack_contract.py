"""The rules of the attack contract that can be checked from an attack's file and from what it yields.

`attack try` checks a new file against them, and the contract tests check every attack of the folder. What can only be
seen while an attack runs (the model is restored, a seed repeats) is checked there.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from robustness_gate import attacks
from robustness_gate.errors import FileError, GateError
from robustness_gate.planning import bench
from robustness_gate.records import declarations
from robustness_gate.records.attack import AttackedModel, Floor
from robustness_gate.records.declarations import ACCESSES, SHOWN
from robustness_gate.records.encode import encode
from robustness_gate.records.questions import hazard_kinds
from robustness_gate.running import trial

HEAVY = ("torch", "transformers", "peft", "numpy", "accelerate")
"""What importing an attack must not import: a plan reads its Config on machines that have none of them."""
ASKED_FOR = ("Threat model", "means", "Source", "Cost")
"""Words that every attack's docstring must contain."""
WORDS = {"NEEDS": ("blocks", "original"), "USES": ("original",), "MEANS": ("original",)}
"""What an attack may declare of what it looks at."""
ONLY_LOOKS = frozenset({"baseline", "diagnostic"})
"""Families that yield the untouched model."""

_WATCH_IMPORTS = """
import os, runpy, sys
path, name, *heavy = sys.argv[1:]
class Watch:
    def find_spec(self, wanted, *_):
        if wanted.partition(".")[0] not in heavy:
            return None
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename != path:
            frame = frame.f_back
        print(wanted, frame.f_lineno if frame is not None else 1, flush=True)
        os._exit(77)
sys.meta_path.insert(0, Watch())
runpy.run_path(path, run_name=name)
"""


class Law(NamedTuple):
    """One rule and its result: `fault` is empty where the attack obeys the rule."""

    title: str
    fault: str


def refuse_heavy_import(path: Path) -> None:
    """Import an attack's file in a process of its own. Raises FileError, with the line, where that imports torch.

    Indirect imports count too: under an `if`, or through a module that imports it. Other errors are left to the next
    import of the file.
    """
    name = f"{attacks.__name__}.{path.stem}"
    command = [sys.executable, "-c", _WATCH_IMPORTS, str(path), name, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 77:
        return
    heavy, line = done.stdout.split()[-2:]
    raise FileError(
        f"importing it imports {heavy.partition('.')[0]}.",
        remedy="Import what needs it inside the functions that use it: a plan reads the Config without it.",
        where=f"{path}:{line}",
    )


def imported(path: Path) -> ModuleType:
    """An attack's file as a module, under a name of its own.

    Raises:
        FileError: there is none, it is not Python, its import fails, or imports torch.
    """
    try:
        ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        words = f"cannot be read: {error.strerror or error}."
        raise FileError(words, remedy="Check the path.", where=str(path)) from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise FileError(f"is not Python: {error}.", remedy="Correct the file.", where=f"{path}:{line}") from None
    spec = importlib.util.spec_from_file_location(f"{attacks.__name__}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileError("is no Python file by its name.", remedy="Call it NAME.py.", where=str(path))
    refuse_heavy_import(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its own module up
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's file may contain any mistake
        raise FileError(f"cannot be imported: {error_line(error, module)}.", where=str(path)) from None
    return module


def error_line(error: BaseException, module: ModuleType) -> str:
    """An error in one line, with the innermost line of the attack's own file that it went through."""
    words = error.message if isinstance(error, GateError) else f"{type(error).__name__}: {error}"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == module.__file__:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    place = f" ({Path(str(module.__file__)).name}:{lines[-1]})" if lines else ""
    return " ".join(words.split()) + place


def declared(module: ModuleType) -> Iterator[Law]:
    """Whether a module is an attack at all; nothing is run."""
    config, version, family = (getattr(module, name, None) for name in ("Config", "VERSION", "FAMILY"))
    frozen = isinstance(config, type) and dataclasses.is_dataclass(config) and _is_frozen(config)
    yield Law("Config is a frozen dataclass", "" if frozen else "there is none")
    named = isinstance(family, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", family)
    yield Law("FAMILY is declared", "" if named else f"it is {family!r}, no name")
    counted = type(version) is int and version >= 1
    yield Law("VERSION is declared", "" if counted else f"it is {version!r}, no whole number from 1 on")
    access = getattr(module, "ACCESS", None)
    yield Law("ACCESS is declared", "" if access in ACCESSES else f"it is {access!r}, none of {', '.join(ACCESSES)}")
    floors = getattr(module, "FLOORS", None)
    if isinstance(floors, tuple) and all(isinstance(each, Floor) for each in floors):
        yield Law("FLOORS is a tuple of floors", declarations.unclear_floor(floors))
    else:
        yield Law("FLOORS is a tuple of floors", f"it is {floors!r}"[:80])
    yield Law("NEEDS, USES and MEANS are tuples of known words", _unknown_values(module))
    yield from _of_forms(module, config if frozen else None)
    attack = getattr(module, "attack", None)
    runs = inspect.isgeneratorfunction(attack) and _takes(attack, "target", "config", "seed")
    fault = "" if runs else "there is none" if attack is None else "it is not"
    yield Law("attack is a generator function of (target, config, seed)", fault)
    if hasattr(module, "refuse"):
        yield Law("refuse takes (config, pool)", "" if _takes(module.refuse, "config", "pool") else "it does not")
    if frozen:
        assert config is not None
        settled = [*_of_settings(module, config)]
        yield from settled
        if not any(law.fault for law in settled):
            yield from _of_records(module)
    text = module.__doc__ or ""
    missing = [f"'{words}'" for words in ASKED_FOR if words not in text]
    yield Law("the docstring says what a reader must know", f"nothing of {', '.join(missing)}" if missing else "")


def survives(module: ModuleType, config: Any) -> str:
    """Why a Config changes when it is serialised and read back; empty where it does not."""
    try:
        back = attacks.configure(module, attacks.as_json(config))
    except attacks.BadConfig as error:
        return f"'{error.key}' {error.message}" if error.key else error.message
    except Exception as error:  # noqa: BLE001 - an annotation that cannot be read fails in any way
        return error_line(error, module)
    return "" if back == config else f"it comes back as {back}"


def of_budgets(config: Any) -> str:
    """Why the budgets of a Config are not a rising ladder; empty where they are."""
    budgets = getattr(config, "budgets", (0,))
    whole = isinstance(budgets, tuple) and bool(budgets) and all(type(each) is int for each in budgets)
    return "" if whole and all(a < b for a, b in pairwise(budgets)) else f"they are {budgets!r}"


def of_recovery(attacked: Any, cost: Mapping[str, float]) -> str:
    """Why a trial cannot record what an attack yields; empty where it can.

    Args:
        attacked: what the attack yielded.
        cost: the cost of the previous budget.
    """
    if not isinstance(attacked, AttackedModel):
        return f"it hands over a {type(attacked).__name__}, not an AttackedModel"
    try:
        for name, value in (*attacked.cost.items(), *attacked.signals.items()):
            trial.finite(value, name)
        encode([trial.plain(attacked.selected), *(trial.plain(each.setting) for each in attacked.settings_tried)])
    except GateError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - the fields may hold anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    if "examples" not in attacked.cost:
        return "its 'cost' does not say how many examples were used"
    fell = [name for name, value in cost.items() if attacked.cost.get(name, value) < value]
    return f"its 'cost' falls in {fell[0]}" if fell else ""


def _of_forms(module: ModuleType, config: Any) -> Iterator[Law]:
    """Whether it declares in which forms of the hazard it can run, and on what data."""
    speaks = getattr(module, "SPEAKS", None)
    known = isinstance(speaks, tuple) and bool(speaks) and all(each in hazard_kinds() for each in speaks)
    fault = "" if known else f"it is {speaks!r}, no tuple of {', '.join(hazard_kinds())}"
    yield Law("SPEAKS names the kinds of hazard task in whose form it is made", fault)
    if known and set(hazard_kinds()) - set(speaks or ()):
        why = getattr(module, "WHY_NOT", "")
        yield Law("WHY_NOT says why in no other", "" if isinstance(why, str) and why else "it says nothing")
    shows = getattr(module, "SHOWS", None)
    yield Law("SHOWS says how questions are shown", "" if shows in SHOWN else f"it is {shows!r}: {', '.join(SHOWN)}")
    takes = _takes(getattr(module, "questions", None), "config")
    if not takes or config is None:
        yield Law("questions takes (config)", "" if takes else "it does not")
        return
    try:
        made = config()
    except Exception:  # noqa: BLE001 - the rule about defaults reports it
        return
    try:
        asked = module.questions(made)
        fault = "" if isinstance(asked, tuple) and all(isinstance(each, str) for each in asked) else f"it is {asked!r}"
    except Exception as error:  # noqa: BLE001 - it is the user's code
        fault = error_line(error, module)
    yield Law("questions names corpora, and dev", fault)


def _of_settings(module: ModuleType, config: Any) -> Iterator[Law]:
    try:
        made, fault = config(), ""
    except Exception as error:  # noqa: BLE001 - a __post_init__ may do anything
        made, fault = None, error_line(error, module)
    yield Law("every setting has a default", fault)
    if fault:
        return
    sham = getattr(module, "SHAM", None)
    yield Law("SHAM is a Config of strength zero", "" if isinstance(sham, config) else "there is none")
    both = [made, sham] if isinstance(sham, config) else [made]
    yield Law("budgets rise", next(filter(None, map(of_budgets, both)), ""))
    yield Law(
        "a Config is the same when it is read back", next(filter(None, (survives(module, each) for each in both)), "")
    )


def _of_records(module: ModuleType) -> Iterator[Law]:
    """Whether its declarations for the contract tests and the self-test can be used."""
    faults = declarations.faults(module)
    faults_line = "; ".join(f"{part} {fault}" for part, fault in faults)
    yield Law("BUDGET, CONTRACT and SELF_TEST are declared", faults_line)
    try:
        if not faults:
            for case in module.SELF_TEST:
                bench.made(module.__name__.rpartition(".")[-1], module, case)
        fault = ""
    except GateError as error:
        fault = error.message
    yield Law("its self-test cases can be made", fault)


def _is_frozen(config: Any) -> bool:
    return bool(config.__dataclass_params__.frozen)


def _unknown_values(module: ModuleType) -> str:
    for name, known in WORDS.items():
        values = getattr(module, name, ())
        if not isinstance(values, tuple) or any(each not in known for each in values):
            return f"{name} is {values!r}, known is {', '.join(known)}"
    return ""


def _takes(function: Callable[..., Any] | None, *names: str) -> bool:
    if function is None:
        return False
    try:
        inspect.signature(function).bind(*names)
    except (TypeError, ValueError):
        return False
    return True
