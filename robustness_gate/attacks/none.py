"""No attack: the model as it was delivered.

The attacker only asks. Threat model: anyone who can send prompts and read letter probabilities. A breach here means
that the knowledge was never hidden, at least not from four letter orders; compliance here means nothing about the
weights. It is the baseline of every other attack and the run that shows whether the model is still useful.

Source: the unattacked rows of every table in Łucki et al., arXiv 2409.18025.
Cost: one examination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustness_gate.records.attack import AttackedModel, Floor, Target
from robustness_gate.records.declarations import Contract, SelfTestCase
from robustness_gate.records.work import Sizes, Work

FAMILY = "baseline"
ACCESS = "api"
VERSION = 1
SPEAKS = ("multiple_choice", "cloze", "lm_eval", "open_answer")
SHOWS = "dev"


@dataclass(frozen=True)
class Config:
    """There are no settings."""


SHAM = Config()
FLOORS: tuple[Floor, ...] = ()
BUDGET = None
CONTRACT = Contract(rows=({},), tiny={})
SELF_TEST: tuple[SelfTestCase, ...] = ()
UNTESTED = "it does nothing"


def questions(config: Config) -> tuple[str, ...]:  # noqa: ARG001 - every attack's has this shape
    """The corpora whose questions are asked, and `dev` if dev items are asked."""
    return ()


def work(config: Config, sizes: Sizes) -> Work:  # noqa: ARG001 - every attack's has this shape
    """Nothing besides the examination."""
    return Work()


def attack(target: Target, config: Config, seed: int) -> Iterator[AttackedModel]:  # noqa: ARG001 - every attack has this shape
    """Yield the untouched model once, at budget 0."""
    yield AttackedModel(target.lm, budget=0, cost={"examples": 0.0, "steps": 0.0})
