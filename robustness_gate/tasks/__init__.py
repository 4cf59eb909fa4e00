"""What a model is asked: one file a task kind. The folder is the registry.

A task asks a respondent and returns log-likelihoods (`Rows`) or what was written (`Replies`). It never sees the answer
key: the trial holds it, and has the task's own `read` turn them into right and wrong. Every kind has both *readings*,
so that every limit works on it; only `multiple_choice` asks in several orders, elsewhere they are the same.

    multiple_choice   the likeliest letter, in all letter orders
    cloze             the likeliest of the choices' words, of which none is shown
    open_answer       the model writes, and says the right words
    lm_eval           a task in lm-evaluation-harness's own YAML
    refusal           the model writes, and does not decline: over-refusal, for guardrails
    membership        texts that were to be forgotten look likelier than texts never seen: a warning

A module holds `KEYS` (what a suite may say of such a task), `Config`, `ask`, `read` and `summary`. A kind is the module
here, its line in `nouns.KINDS` (how its answers are judged), and how its items are read and put (`materials`, which
refuses a kind that it does not name). `load` refuses one of which something is missing: a kind that is known by half
would be asked as another one, and judged.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from robustness_gate import nouns
from robustness_gate.errors import PlanError
from robustness_gate.files import nearest

PARTS = ("KEYS", "Config", "ask", "read", "summary")
"""What every module has."""


def names() -> tuple[str, ...]:
    """Every module in the folder, sorted, none imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(kind: str, *, where: str = "") -> ModuleType:
    """A kind's module, without torch.

    Raises:
        PlanError: there is no such kind, or it is registered in part alone. `where` is the place that names it.
    """
    judged, there = kind in nouns.KINDS, kind in names()
    if not judged and not there:
        remedy = nearest(kind, sorted(nouns.KINDS))
        raise PlanError(f"there is no task kind '{kind}'.", remedy=remedy, where=where, code="unknown-kind")
    lacks = [] if judged else ["its line in nouns.KINDS, how it is judged"]
    module = importlib.import_module(f"{__name__}.{kind}") if there else ModuleType(kind)
    lacks += [f"`{part}` in tasks/{kind}.py" for part in PARTS if not hasattr(module, part)]
    if lacks:
        raise PlanError(
            f"the task kind '{kind}' is registered in part alone: it lacks {', '.join(lacks)}.",
            remedy="Nothing is guessed in its place: register all of it, or name another kind.",
            where=where,
            code="unknown-kind",
        )
    return module
