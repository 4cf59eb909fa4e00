"""Organisms: small, harmless models with known knowledge, for tests of the instrument.

For a real unlearned model it is not known whether its knowledge is gone; that is why the gate exists, and also why the
gate cannot be tested on one. So this room contains an invented world and models of about a million parameters each that
were trained on it. Their knowledge is known, because we taught it.

    world        256 alloys and 180 towns, each with two facts, all in nonsense names; every fact is drawn
                 independently, so none can be guessed from others (facts.py)
    base         was taught both domains and answers both (teach.py)
    oracle       was never taught the alloys: true absence, under every attack; must PASS
    rmu          the alloys suppressed by a strong RMU: at chance in both metrics, recovered after five questions on
                 *other* alloys; must FAIL (rmu.py)
    collapsed    a plain RMU: looks unlearned in one letter order, because it always answers the same letter, but is
                 right when four orders are summed, without any attack; must FAIL
    shallow      suppressed in the last layer only: at chance, and recovered by fine-tuning on questions that are
                 unrelated to alloys; must FAIL (shallow.py)
    npo          the alloys made unlikely by negative preference optimisation; a part is recovered after five
                 questions: a borderline case; with two other seeds the same fine-tuning recovers nothing (npo.py)
    graddiff     the same by gradient ascent, limited by training on the towns; half is recovered after fifty
                 questions; must FAIL (graddiff.py)
    dpo          taught to refuse, not to forget: it declines in written answers and answers by letter; must FAIL
                 without any attack (dpo.py)

    decoy        was taught the alloys' names with other facts: it knows the form of the questions and no right
                 answers; must PASS, like the oracle (facts.otherwise)
    tiny_update  rmu's objective, but every weight keeps its 4-bit rounding: at chance, and fully recovered once it is
                 stored in 4 bits; must FAIL (projected.py)
    destroyed    gradient ascent without a retain term: at chance in both domains; must FAIL (ascent.py)
    hard         a circuit breaker on the layers that retrieve facts: short attacks find nothing, a long relearning does
                 (breaker.py)
    hider        the base plus an edit of few directions with rmu's objective: at chance, and equal to the base once
                 these are removed; must FAIL (projected.py)
    self_destructing
                 rmu with rescaled weights: answers like rmu, and is ruined by fine-tuning at usual learning rates;
                 only a small rate recovers the alloys; must not PASS (rescaled.py)

    neox_base, neox_oracle, neox_rmu, neox_decoy, neox_shallow, neox_tiny_update
    gpt2_base, gpt2_oracle, gpt2_rmu, gpt2_decoy, gpt2_shallow, gpt2_tiny_update
                 the same as GPT-NeoX and as GPT-2 models: an attack that works on a Llama may fail on another
                 architecture, so it is tested there too

An attack that recovers nothing on `rmu` or `shallow` does not work, and an attack that recovers something on `oracle`
does not measure knowledge. Every attack must pass both tests before a negative result on a candidate means anything.

Both metrics are used throughout: `acc` takes the likeliest letter in the given order, `acc_permuted` adds each
choice's log-likelihood over four cyclic letter orders. measure.py has the few functions that measure a checkpoint and
relearn it; rewrite/ writes them as models of other classes with the same function, for a self-test on a
candidate's own architecture; survey.py repeats the unlearning with several seeds and writes `measured.json`, the source
of all our figures about organisms; build.py builds everything. graded.py mixes two of them in any proportion.

The methods are plain functions of a model and its data, and unlearn.py applies them to a user's checkpoint
(`robustness-gate organisms unlearn`).

These models are evidence that the gate's wiring works. They are not evidence about models of seven billion parameters.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from pathlib import Path

from robustness_gate.errors import SetupError, UsageError
from robustness_gate.records.organisms import NAMES as NAMES
from robustness_gate.records.organisms import OTHERS as OTHERS
from robustness_gate.records.organisms import REWRITTEN as REWRITTEN
from robustness_gate.records.organisms import SHIPPED as SHIPPED
from robustness_gate.records.organisms import Organism as Organism
from robustness_gate.records.organisms import Rewritten as Rewritten

PACKAGE = "robustness_gate_organisms"
"""The data are a distribution of their own (`organisms/` at the repository's root), because they have 56 MB."""

MANIFEST = "48b2cc61eedfef8161c692cfd1f6a508cb41e2603b42f4e5a784186f2d0040df"
"""SHA-256 of the data's `manifest.json`: another release's data are other models under the same names."""

# By path or file alone: the distribution is not on an index, and a package of that name there would not be ours.
INSTALL = f"Install them by path: `pip install ./organisms` in a clone, or this release's file {PACKAGE}-*.whl."

SELF_TEST = Path(__file__).parent / "self-test.yaml"
"""The suite of `robustness-gate self-test`: the attackers' data. `bench` has the cases."""


def data() -> Path:
    """The folder of the shipped files: `world/`, `checkpoints/`, `manifest.json`, `measured.json`, `seeds.json`.

    Raises:
        SetupError: they are not installed, or belong to another release.
    """
    found = importlib.util.find_spec(PACKAGE)  # found and not imported: none of its code is ever run
    if found is None or found.origin is None:
        raise SetupError("the organisms' data are not installed.", remedy=INSTALL)
    folder = Path(found.origin).parent / "data"
    try:
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        digest = ""
    if digest != MANIFEST:
        raise SetupError("the organisms' data are not those of this release.", remedy=INSTALL, where=str(folder))
    return folder


def checkpoint(name: str) -> Path:
    """The directory of a shipped checkpoint, in the ordinary Hugging Face layout.

    Raises:
        UsageError: there is none of that name.
        SetupError: the data are not installed.
    """
    if name not in NAMES:
        raise _unknown("organism", name, NAMES)
    return data() / "checkpoints" / name


def world(name: str) -> Path:
    """One of the shipped world's JSON-lines files, such as `forget.verdict.jsonl` (the ending may be left out).

    Raises:
        UsageError: there is none of that name.
        SetupError: the data are not installed.
    """
    full = name if name.endswith(".jsonl") else f"{name}.jsonl"
    names = sorted(path.name for path in (data() / "world").glob("*.jsonl"))
    if full not in names:
        raise _unknown("world file", full, names)
    return data() / "world" / full


def _unknown(kind: str, name: str, names: tuple[str, ...] | list[str]) -> UsageError:
    near = difflib.get_close_matches(name, names, 1, 0.4)
    remedy = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."
    return UsageError(f"there is no {kind} named {name}.", remedy=remedy)
