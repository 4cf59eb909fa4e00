"""The attacks: one file each. The folder is the registry.

An attack is a module with

- a docstring: what the attacker does, threat model, what success means and does not mean, sources, departures, cost
  (`robustness_gate.assurance.attack_contract` lists the words that it must contain);
- `Config`, a frozen dataclass that can be read without torch; its field `budgets`, if any, is the ladder of budgets;
- `FAMILY`, `ACCESS`, `VERSION`; `SHAM`, a Config of strength zero; `FLOORS`, the signals that must show that it took
  effect, each with a description of what must happen and what that excludes (`the weights move: no frozen copy`);
- `attack(target, config, seed)`, a generator that yields one `AttackedModel` for each budget while its `with`
  scopes are open; its `cost` contains `examples`, and no number in it falls from one budget to the next;
- `SPEAKS`, the kinds of hazard task in whose form it can run, and where that is not all, `WHY_NOT`; it trains,
  optimises and selects in every form in `target.hazards` and in no other (`engine.examples.ways` formats a corpus's
  questions so);
- `questions(config)`, the corpora whose questions it asks, and `dev` if it selects on dev items (where a suite has none
  of them, it cannot run);
- `BUDGET`, a `robustness_gate.records.declarations.Budget`: what `budgets` counts; None where `Config` has no
  `budgets`;
- `CONTRACT`, a `Contract`: the small settings with which the contract tests run it;
- `SELF_TEST`, `SelfTestCase`s: the organisms on which it should recover the knowledge (a case for each kind of it that
  a policy may require); where there are none, `UNTESTED` gives the reason;
- `SHOWS`, how it uses them: `solved`, `closed` (with the model's own answer), `asked`, `bare` (text alone), or `dev`
  (dev items alone);
- optionally `cannot(config, kind)`: the reason why it cannot run in a form with these settings, or empty;
- optionally `EDITS`, of an attack that edits prompts: `before` (it inserts text before each) or `within`;
- optionally `NEEDS`, of "blocks" (the model's blocks must be recognised) and "original", so that `plan` can report
  problems;
- optionally `USES`, of "original": it uses the original where there is one, and can run without;
- optionally `MEANS`, of "original": what the attacker must have, so that a policy whose threat model excludes it cannot
  require the attack (`NEEDS` is what the run needs, even for a comparison alone);
- `Config` calls its data `source`, `train_on`, `utility` or `calibrate_on`: a sham takes these from the suite's config;
- optionally `reach(model, config)`, of an attack that changes weights: the full names of the blocks' matrices that this
  config selects (`doctor` reports their share; the signals `share_touched` and `share_of_asked` hold what was changed,
  see `robustness_gate.engine.matrices`);
- optionally `refuse(config, pool)`: another reason why it cannot run on the given data, or empty;
- optionally `at_best(config, given)`: the best that signals of `FLOORS` can be with these settings on the model that a
  `robustness_gate.records.declarations.Given` describes: the most where a floor has a `min`, the least where it has a
  `max`; a signal that depends on an unknown number of layers is left out. `plan` says by it where a search is too small
  for compliance;
- `work(config, sizes)`, a `robustness_gate.records.work.Work`: its own passes through the model, for `plan --cost`.
  Every attack of ours has it; a plug-in's may go without, and is then named as not counted.

Adding one is writing one file here: the contract tests and the self-test read what it declares.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from robustness_gate.errors import PlanError
from robustness_gate.inputs import settings
from robustness_gate.inputs.plugins import Door
from robustness_gate.inputs.settings import BadConfig
from robustness_gate.records import declarations
from robustness_gate.records.encode import Json

__all__ = ["BadConfig", "as_json", "budgets", "configure", "load", "names", "refusal"]

WHICH_DATA = ("source", "train_on", "utility", "calibrate_on")
"""Settings that select which of the suite's data an attack uses: a sham copies them, because other data may be
missing."""


def names() -> tuple[str, ...]:
    """The names of all attacks in the folder, sorted; none is imported."""
    return DOOR.names()


PARTS = (
    *("Config", "FAMILY", "ACCESS", "VERSION", "SHAM", "FLOORS", "SPEAKS", "SHOWS", "questions", "attack"),
    *("BUDGET", "CONTRACT", "SELF_TEST"),
)
"""What every attack's file must have. The rest is optional; a missing name means no."""
DOOR = Door("attacks", "attack", PARTS, "unknown-attack")


def load(name: str, *, where: str = "") -> ModuleType:
    """Import one attack, ours or a plug-in's (ours without torch).

    An incomplete attack is refused, because a missing declaration would be read as "no".

    Raises:
        PlanError: no attack has that name, it cannot be imported, or a declaration is missing.
    """
    module = DOOR.load(name, where=where)
    declarations.refuse(name, module, where=where)
    return module


def docstring_part(module: ModuleType, word: str) -> str:
    """The sentence of an attack's docstring that begins with `Cost:` or `Source:` (also `Sources:`), in one line."""
    paragraphs = re.split(rf"^{word}s?:", module.__doc__ or "", maxsplit=1, flags=re.MULTILINE)
    if len(paragraphs) < 2:
        return ""
    text = re.split(r"\n\n|^[A-Z][a-z]+(?: [a-z]+)?:", paragraphs[1], maxsplit=1, flags=re.MULTILINE)[0]
    return " ".join(text.split())


def configure(module: ModuleType, given: Mapping[str, Json]) -> Any:
    """A module's Config with the given values, strictly typed. Raises BadConfig."""
    return settings.of(module.Config, given)


def as_json(config: Any) -> dict[str, Json]:
    """All fields of a Config as plain data, defaults included."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}


def budgets(config: Any) -> tuple[int, ...]:
    """The budgets of a Config; an attack without a budget has the one budget 0."""
    return tuple(getattr(config, "budgets", (0,)))


def refusal(module: ModuleType, config: Any, pool: Mapping[str, int]) -> str | None:
    """Why an attack cannot run on the given data; nothing where it can.

    Args:
        module: the attack.
        config: its Config.
        pool: the number of items and texts of each corpus, from `SuiteData.pool`.

    Raises:
        PlanError: `questions` does not return names.
    """
    own: str | None = module.refuse(config, pool) if hasattr(module, "refuse") else None
    if own is not None:
        return own
    sources = module.questions(config)
    if not isinstance(sources, tuple | list | set | frozenset) or not all(isinstance(each, str) for each in sources):
        raise PlanError(
            f"`questions` of the attack '{DOOR.name_of(module)}' returns {sources!r:.80}, no names of data.",
            remedy="Let it return a tuple such as ('forget', 'dev'), or ().",
            code="unknown-attack",
        )
    for source in sources:
        if not pool.get("dev" if source == "dev" else f"{source}.items", 0):
            wanted = "it chooses on dev items" if source == "dev" else f"it needs '{source}' questions"
            return f"{wanted}, and the suite has none"
    return None
