"""What is done to a model: one file an attack. The folder is the registry.

An attack is a module with

- a docstring: what the attacker does, threat model, what success means and does not mean, sources, departures, cost
  (`robustness_gate.assurance.attack_contract` says which words it must have);
- `Config`, a frozen dataclass that can be read without torch; its field `marks`, if any, is the ladder of budgets;
- `FAMILY`, `ACCESS`, `VERSION`; `SHAM`, a Config of strength zero; `FLOORS`, what must show that it really happened;
- `attack(target, config, seed)`, a generator that yields one `AttackedModel` a budget while its `with` scopes are
  open; what it has `spent` holds `examples`, and no number there falls;
- `SPEAKS`, the kinds of hazard task in whose form it can be made, and where that is not all, `WHY_NOT`; it trains, aims
  and chooses in every form in `target.hazards` and in no other (`engine.examples.ways` puts a corpus's questions so);
- `questions(config)`, whose questions it puts to the model: names of corpora, and `dev` if it chooses on dev items
  (where a suite has none of them, it cannot run);
- `BUDGET`, a `robustness_gate.records.declarations.Budget`: what `marks` counts; None where `Config` has no `marks`;
- `CONTRACT`, a `Contract`: the small settings with which the contract tests run it;
- `SELF_TEST`, `SelfTestCase`s: on which organisms it should bring the knowledge back (a case for each kind of it that a
  policy may require); where there are none, `UNTESTED` says why no shipped organism can show that it works;
- `SHOWS`, how: `solved`, `closed` (by the model's own answer), `asked`, `bare` (words alone), or `dev`, none but those;
- optionally `cannot(config, kind)`, which says why it cannot be made in a form with these settings, or nothing;
- optionally `EDITS`, of an attack that edits prompts: `before` (it puts something before each) or `within`;
- optionally `NEEDS`, of "blocks" (its blocks must be understood) and "original", so that `plan` can foresee trouble;
- optionally `USES`, of "original": what it looks at where there is one, and can do without;
- optionally `MEANS`, of "original": what its attacker must hold himself, so that a policy whose threat model does not
  give it to him cannot require the attack (`NEEDS` is what the run needs, also for comparison alone);
- `Config` calls its data `source`, `train_on`, `utility` or `calibrate_on`: a sham takes these from the suite's config;
- optionally `reach(model, config)`, of an attack that changes weights: the full names of the blocks' matrices that this
  config sets out to change (`doctor` tells their share; what was changed stands in the signs `share_touched` and
  `share_of_asked`, see `robustness_gate.engine.matrices`);
- optionally `refuse(config, pool)`, which says why it cannot run on the given data for another reason, or nothing.

Adding one is writing one file here: the contract tests and the self-test read what it declares.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from robustness_gate.inputs import settings
from robustness_gate.inputs.plugins import Door
from robustness_gate.inputs.settings import BadConfig
from robustness_gate.records import declarations
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import hazard_kinds

__all__ = ["BadConfig", "as_json", "budgets", "configure", "load", "names", "refusal", "said"]

WHICH_DATA = ("source", "train_on", "utility", "calibrate_on")
"""Settings that say which of the suite's data an attack uses: a sham takes them over, because others may be missing."""


def names() -> tuple[str, ...]:
    """Every attack in the folder, sorted, none imported."""
    return DOOR.names()


PARTS = (
    *("Config", "FAMILY", "ACCESS", "VERSION", "SHAM", "FLOORS", "SPEAKS", "SHOWS", "questions", "attack"),
    *("BUDGET", "CONTRACT", "SELF_TEST"),
)
"""What every attack's file has. The rest is optional, and its absence says no."""
DOOR = Door("attacks", "attack", PARTS, "unknown-attack")


def load(name: str, *, where: str = "") -> ModuleType:
    """Import one attack, ours or a plug-in's (ours without torch).

    An attack that is there by half would be judged by what it does not say.

    Raises:
        PlanError: there is none of that name, it cannot be imported, or something of it is missing.
    """
    module = DOOR.load(name, where=where, lacks=_lacks)
    declarations.refuse(name, module, where=where)
    return module


def _lacks(module: ModuleType) -> list[str]:
    speaks_all = set(hazard_kinds()) <= set(module.SPEAKS)
    return [] if speaks_all or hasattr(module, "WHY_NOT") else ["WHY_NOT"]


def said(module: ModuleType, word: str) -> str:
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
    """Every field of a Config as plain data, defaults included."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}


def budgets(config: Any) -> tuple[int, ...]:
    """The budgets of a Config; an attack without a budget has the one budget 0."""
    return tuple(getattr(config, "budgets", (0,)))


def refusal(module: ModuleType, config: Any, pool: Mapping[str, int]) -> str | None:
    """Why an attack cannot run on the given data; nothing where it can.

    Args:
        module: the attack.
        config: its Config.
        pool: how much there is of what, as `SuiteData.pool` counts it.
    """
    own: str | None = module.refuse(config, pool) if hasattr(module, "refuse") else None
    if own is not None:
        return own
    for source in module.questions(config):
        if not pool.get("dev" if source == "dev" else f"{source}.items", 0):
            wanted = "it chooses on dev items" if source == "dev" else f"it needs '{source}' questions"
            return f"{wanted}, and the suite has none"
    return None
