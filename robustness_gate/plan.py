"""(Policy, Suite, checkpoint) -> Plan: every trial that will run, written out before anything runs.

Everything that can be found out without a GPU is found out here: items that are not there, a limit on an attack that
the suite does not run, a budget beyond its pool, verdict items that an attacker could see. None of it needs torch.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from robustness_gate import attacks, organisms, sources
from robustness_gate.checkpoint import Manifest, Place
from robustness_gate.errors import PlanError, UsageError
from robustness_gate.files import Loaded, digest_of, items_digest, nearest
from robustness_gate.nouns import (
    Corpus,
    Floor,
    Form,
    Format,
    Item,
    Json,
    Suite,
    SuiteAttack,
    SuiteTask,
    TaskRef,
    Trial,
    in_format,
    seed_of,
)
from robustness_gate.policy import Limit, Policy, Requirement, Selector, TaskPin
from robustness_gate.prompts import header_for
from robustness_gate.tasks import KINDS, lm_eval
from robustness_gate.verdict import label, spelled_out
from robustness_gate.verdict.cells import DIAGNOSES, limits

WHICH_DATA = ("source", "train_on", "utility", "calibrate_on")
"""Settings that say which of the suite's data an attack uses: a sham takes them over, because others may be missing."""

KNOWN_BLOCKS = (
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
)  # fmt: skip - the families on which tests/engine/test_anatomy.py tries engine/anatomy.py


@dataclass(frozen=True)
class Exam:
    """One task's questions with their key and form. Only a trial sees the key."""

    kind: str
    items: tuple[Item, ...]
    form: Form
    untouched_only: bool = False
    """Asked of the model as delivered, not after attacks: a baseline."""


@dataclass(frozen=True)
class Materials:
    """Everything that a suite's files hold."""

    exams: dict[str, Exam]
    hazard: str
    dev: tuple[Item, ...]
    corpora: dict[str, Corpus]

    def task_refs(self, attack: str) -> tuple[TaskRef, ...]:
        """The tasks that an attack's Recoveries are asked, named by content: the hazard first, the others by name."""
        order = sorted(self.exams, key=lambda name: (name != self.hazard, name))
        asked = (name for name in order if attack == "none" or not self.exams[name].untouched_only)
        return tuple(self.refs[name] for name in asked)

    @cached_property
    def refs(self) -> dict[str, TaskRef]:
        """Each task by its content; digested once, since every trial names them."""
        return {name: _task_ref(name, exam) for name, exam in self.exams.items()}

    @cached_property
    def data_digests(self) -> dict[str, str]:
        """Digests of what an attack could see."""
        found = {"dev": items_digest(self.dev)} if self.dev else {}
        if any(form.chat for form in self.forms):  # else raw alone, which has no entry
            found["hazard's formats"] = digest_of(["chat" if form.chat else "raw" for form in self.forms])
        for name, corpus in sorted(self.corpora.items()):
            found[name] = digest_of([items_digest(corpus.items), list(corpus.texts), corpus.header])
        return found

    @property
    def forms(self) -> tuple[Form, ...]:
        """How the hazard task is asked, one for each of its formats, in the suite's order."""
        formats: tuple[Format, ...] = ("raw", "chat")
        names = {in_format(self.hazard.removesuffix(".chat"), each) for each in formats}
        return tuple(exam.form for name, exam in self.exams.items() if name in names)

    def pool(self) -> dict[str, int]:
        """How much there is of what: `dev`, `forget.items`, `forget.texts`, ..."""
        found = {"dev": len(self.dev)}
        for name, corpus in self.corpora.items():
            found |= {f"{name}.items": len(corpus.items), f"{name}.texts": len(corpus.texts)}
        return found


@dataclass(frozen=True)
class Subject:
    """A checkpoint with a role in the run."""

    role: str
    place: Place
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What will be run, in this order."""

    trials: tuple[Trial, ...]
    subjects: tuple[Subject, ...]
    left_out: tuple[str, ...] = field(default=())
    """What the suite has and this run leaves out, in words."""
    foreseen: tuple[str, ...] = field(default=())
    """What will probably not be applicable, and why; `doctor` loads the model and knows."""

    @property
    def candidate(self) -> Subject:
        """The checkpoint under attack."""
        return self.subjects[0]


def make(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    materials: Materials,
    subjects: Sequence[Subject],
    *,
    only: Sequence[str] = (),
) -> Plan:
    """Write out every trial.

    Args:
        policy: what must hold.
        suite: what is tried.
        materials: the suite's files, from `gather`.
        subjects: the candidate first, then the original and controls, if any.
        only: run these attacks alone, given by name or by label; the rest is listed as left out, and if it was required
            a PASS is impossible.

    Raises:
        PlanError: policy and suite do not fit each other, or the suite's data do not fit its attacks.
    """
    _refuse_roles([subject.role for subject in subjects])
    configured = list(_configured(suite, materials))
    candidate = subjects[0]
    reference = next((subject.manifest.digest for subject in subjects if subject.role == "original"), None)
    everything = [
        trial_of(candidate, reference, module, config, index, materials, suite.noun.dtype)
        for entry, module, config in configured
        for index in range(entry.seeds)
    ]
    check_fit(policy, suite, materials, everything)
    known = sorted({name for trial in everything for name in (trial.attack, label(trial))})
    for name in only:
        if name not in known:
            raise PlanError(f"--only '{name}': the suite has no such attack.", remedy=nearest(name, known))
    chosen = [trial for trial in everything if not only or trial.attack in only or label(trial) in only]
    left_out = [f"{label(t)}, seed {t.seed_index}: left out by --only" for t in everything if t not in chosen]
    ordered = [trial for _, trial in sorted(enumerate(chosen), key=lambda each: (each[1].attack != "none", each[0]))]
    asked = spelled_out(policy.noun)
    shams = list(_shams(asked, configured, candidate, reference, materials, suite.noun.dtype))
    if only:  # an attack that is left out needs no sham
        kept = {trial.attack for trial in chosen}
        left_out += [f"sham of {each.attack}: left out by --only" for each in shams if each.attack not in kept]
        shams = [each for each in shams if each.attack in kept]
    beside = [
        each for subject in subjects[1:] for each in _beside(asked, subject, ordered, materials, suite.noun.dtype)
    ]
    untouched = sum(trial.attack == "none" for trial in ordered)
    trials = (*ordered[:untouched], *shams, *ordered[untouched:], *beside)
    foreseen = [*_foreseen(chosen, candidate), *_not_given(policy, subjects)]
    return Plan(trials, tuple(subjects), tuple(left_out), tuple(foreseen))


def _shams(
    policy: Policy,
    configured: Sequence[tuple[SuiteAttack, ModuleType, Any]],
    candidate: Subject,
    reference: str | None,
    materials: Materials,
    dtype: str,
) -> Iterator[Trial]:
    """Each required attack once at strength zero, on data that the suite has."""
    if policy.validity.sham == "off":
        return
    for attack in sorted({requirement.attack for requirement in policy.required} - {"none"}):
        module, config = next((m, c) for entry, m, c in configured if entry.attack == attack)
        yield sham_of(candidate, reference, module, config, materials, dtype)


def sham_of(
    subject: Subject, reference: str | None, module: ModuleType, config: Any, materials: Materials, dtype: str
) -> Trial:
    """The attack at strength zero, on the data of the given config, so that it asks for nothing that is not there."""
    sham = module.SHAM
    sham = dataclasses.replace(sham, **{name: getattr(config, name) for name in WHICH_DATA if hasattr(sham, name)})
    trial = trial_of(subject, reference, module, sham, 0, materials, dtype)
    return trial.model_copy(update={"role": "sham", "floors": ()})  # at strength zero nothing is to be seen


def _beside(
    policy: Policy, subject: Subject, own: Sequence[Trial], materials: Materials, dtype: str
) -> Iterator[Trial]:
    """What is asked of the original (nothing but to answer) and of a control (exactly what an excess pairs with)."""
    none = attacks.load("none")
    yield trial_of(subject, None, none, none.Config(), 0, materials, dtype)
    name = subject.role.removeprefix("control:")
    for trial in own:
        paired = any(limit.over == name and limits(limit, trial) for limit in policy.limits)
        if paired and trial.attack != "none":
            seed = seed_of(subject.manifest.digest, trial.attack, trial.seed_index)
            yield trial.model_copy(update={"subject": subject.manifest.digest, "role": subject.role, "seed": seed})


def _not_given(policy: Loaded[Policy], subjects: Sequence[Subject]) -> Iterator[str]:
    """What the policy compares with and this command does not name: the gate would then say INCONCLUSIVE."""
    roles = {subject.role: subject for subject in subjects}
    if policy.noun.validity.canary == "required" and "original" not in roles:
        yield "the policy requires a canary: name the model from before unlearning with --original"
    for name, control in policy.noun.controls.items():
        given = roles.get(f"control:{name}")
        if given is not None and given.manifest.digest != control.sha256:
            raise PlanError(
                f"the control '{name}' has the digest {given.manifest.digest}.",
                remedy="It is another model than the policy pins.",
                where=policy.where("controls", name, "sha256"),
                code="wrong-control",
            )
        if given is None and any(limit.over == name for limit in spelled_out(policy.noun).limits):
            how = "--anchor" if control.kind == "earlier_release" else "--control"
            yield f"the policy compares with '{name}': name it with {how} {name}=..."


def _foreseen(trials: Sequence[Trial], candidate: Subject) -> Iterator[str]:
    """Trials whose needs this checkpoint or this command does not seem to meet."""
    for trial in trials:
        needs = getattr(attacks.load(trial.attack), "NEEDS", ())
        if "original" in needs and trial.reference is None:
            yield f"{label(trial)}, seed {trial.seed_index}: not applicable without --original"
        if "blocks" in needs and (kind := model_type(candidate.place)) not in KNOWN_BLOCKS:
            yield (
                f"{label(trial)}, seed {trial.seed_index}: perhaps not applicable, blocks of model_type '{kind}' "
                "were never tried; `robustness-gate doctor` finds out"
            )


def model_type(place: Place) -> str:
    """What config.json says, of the base where the checkpoint is an adapter; empty where it says nothing."""
    try:
        config = json.loads(((place.base or place).path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def without_pins(policy: Loaded[Policy]) -> Loaded[Policy]:
    """The same policy without digests of questions, data and settings: what `policy pin` makes anew."""
    noun = policy.noun
    tasks = {name: pin.model_copy(update={"sha256": None, "source": None}) for name, pin in noun.tasks.items()}
    required = tuple(each.model_copy(update={"config_sha256": None}) for each in noun.required)
    bare = noun.model_copy(update={"tasks": tasks, "data": {}, "required": required})
    return dataclasses.replace(policy, noun=bare)


def of_candidate(plan: Plan) -> tuple[Trial, ...]:
    """The candidate's trials."""
    return tuple(trial for trial in plan.trials if trial.role == "candidate")


def gather(suite: Loaded[Suite]) -> Materials:
    """Read every file that a suite names, and check that no verdict item can be seen by an attacker.

    Raises:
        FileError, PlanError: with file:line:column in the suite or file:line in the data.
    """
    noun = suite.noun
    if noun.hazard not in noun.tasks:
        raise PlanError(
            f"the hazard task '{noun.hazard}' is not among the tasks.",
            remedy=nearest(noun.hazard, list(noun.tasks)),
            where=suite.where("hazard"),
            code="unknown-hazard",
        )
    exams: dict[str, Exam] = {}
    dev: tuple[Item, ...] = ()
    for name, task in noun.tasks.items():
        _refuse_confusion(name, task.formats, suite)
        if task.kind not in KINDS:
            raise PlanError(
                f"there is no task kind '{task.kind}'.",
                remedy=nearest(task.kind, KINDS),
                where=suite.where("tasks", name, "kind"),
                code="unknown-kind",
            )
        if task.roles is not None and task.roles.dev > 0.5:
            raise PlanError(
                f"{task.roles.dev:.0%} of the items for attackers leave less than half for the verdict.",
                remedy="Give attackers at most 0.5.",
                where=suite.where("tasks", name, "roles", "dev"),
                code="roles",
            )
        harness = _harness_task(suite, name, task)
        items = _items(locate(task.items, suite, "tasks", name, "items"), harness)
        if len(items) != task.count:
            raise PlanError(
                f"the file holds {len(items)} items, 'count' says {task.count}.",
                remedy="Correct the one that is wrong: a changed benchmark is another benchmark.",
                where=suite.where("tasks", name, "count"),
                code="wrong-count",
            )
        if task.sha256 is not None and task.sha256 != items_digest(items):
            raise PlanError(
                f"the items have the digest {items_digest(items)}.",
                remedy="Correct 'sha256', or find out who changed the file.",
                where=suite.where("tasks", name, "sha256"),
                code="wrong-questions",
            )
        if task.subset is not None:
            path = locate(task.subset, suite, "tasks", name, "subset")
            if isinstance(path, str):
                raise PlanError(
                    "a subset is a file with one id a line, not a dataset.",
                    remedy="Name a file.",
                    where=suite.where("tasks", name, "subset"),
                    code="missing-file",
                )
            items = sources.keep(items, sources.read_ids(path), str(path))
        if task.roles is not None:
            try:
                items, kept_back = sources.divide(items, task.roles)
            except UsageError as error:
                place = suite.where("tasks", name, "roles", "key")
                raise PlanError(error.message, remedy=error.remedy, where=place, code="no-role-key") from None
            if not items:
                raise PlanError(
                    "no item is left to be judged by.",
                    remedy="Lower 'dev'.",
                    where=suite.where("tasks", name, "roles"),
                    code="roles",
                )
            dev = kept_back if name == noun.hazard else dev
        if task.hide_question and name == noun.hazard:
            raise PlanError(
                "the hazard task cannot hide its question: no attack would be judged by it.",
                remedy="Ask the choices alone in a task of its own.",
                code="wrong-baseline",
                where=suite.where("tasks", name, "hide_question"),
            )
        if task.hide_question:
            items = sources.question_hidden(items)
        for each in task.formats:
            form = lm_eval.form(harness) if harness else _form(task.topic, items, chat=each == "chat")
            exams[in_format(name, each)] = Exam(task.kind, items, form, untouched_only=task.hide_question)
    if noun.dev and dev:
        raise PlanError(
            f"'{noun.hazard}' has roles, so its dev items are already there.",
            remedy="Take out one of the two.",
            where=suite.where("dev"),
            code="two-dev-sets",
        )
    if noun.dev:  # in the words in which the hazard task asks
        dev = _items(locate(noun.dev, suite, "dev"), _harness_task(suite, noun.hazard, noun.tasks[noun.hazard]))
    corpora = {
        name: Corpus(
            sources.read_items(locate(corpus.items, suite, "corpora", name, "items"))[: corpus.first]
            if corpus.items
            else (),
            sources.read_texts(locate(corpus.texts, suite, "corpora", name, "texts")) if corpus.texts else (),
            header_for(corpus.topic) if corpus.topic else "",
        )
        for name, corpus in noun.corpora.items()
    }
    materials = Materials(exams, in_format(noun.hazard, noun.tasks[noun.hazard].formats[0]), dev, corpora)
    _refuse_leaks(suite, materials)
    return materials


def locate(name: str, suite: Loaded[Suite], *at: str | int) -> Path | str:
    """What a suite names: `organism:NAME` is shipped, a hub dataset stays as it is, a path starts at the suite."""
    if sources.is_hub(name):
        if sources.HUB.match(name) is None:
            raise PlanError(
                f"'{name}' does not name a dataset by its commit.",
                remedy="Write hf-dataset://OWNER/NAME@40-HEX-COMMIT/CONFIG/SPLIT: a branch may change under a verdict.",
                where=suite.where(*at),
                code="moving-tag",
            )
        return name
    try:
        if name.startswith("organism:"):
            return organisms.world(name.removeprefix("organism:"))
        path = suite.path.parent / name
        if path.exists():
            return path
    except (UsageError, OSError) as error:  # OSError: the name is longer than any file's
        words = error.message if isinstance(error, UsageError) else f"'{name[:60]}' is no file's name."
        remedy = error.remedy if isinstance(error, UsageError) else "Paths start at the suite."
        raise PlanError(words, remedy=remedy, where=suite.where(*at), code="missing-file") from None
    raise PlanError(
        f"there is no file '{name}'.",
        remedy="Paths start at the suite.",
        where=suite.where(*at),
        code="missing-file",
    )


ACCESS = ("api", "fine_tune_api", "open_weights")
"""What an adversary can do, from the least to the most."""


def check_fit(policy: Loaded[Policy], suite: Loaded[Suite], materials: Materials, trials: Sequence[Trial]) -> None:
    """Whether the policy speaks of what the suite does. Raises PlanError, with a code, at the place in the policy."""
    for name, pin in policy.noun.tasks.items():
        _fit_task(policy, suite, materials, name, pin)
    for name, digest in policy.noun.data.items():
        if name not in materials.data_digests:
            raise PlanError(
                f"the suite has no data '{name}'.",
                remedy=nearest(name, list(materials.data_digests)),
                where=policy.where("data", name),
                code="wrong-data",
            )
        if digest != materials.data_digests[name]:
            raise PlanError(
                f"the policy pins other data under '{name}': the suite's have {materials.data_digests[name]}.",
                remedy="`policy pin` prints the suite's digests; look at what changed before you take them over.",
                where=policy.where("data", name),
                code="wrong-data",
            )
    for index, limit in enumerate(policy.noun.limits):
        _fit_limit(policy, suite, materials, trials, index, limit)
    for index, requirement in enumerate(policy.noun.required):
        _fit_requirement(policy, suite, trials, index, requirement)


def _fit_task(policy: Loaded[Policy], suite: Loaded[Suite], materials: Materials, name: str, pin: TaskPin) -> None:
    exam = _exam(policy, materials, in_format(name, pin.formats[0]), "tasks", name)
    for each in pin.formats:
        _exam(policy, materials, in_format(name, each), "tasks", name, "formats")
    if pin.items != len(exam.items):
        raise PlanError(
            f"the policy pins {pin.items} items, the suite has {len(exam.items)}.",
            remedy="They must be the same benchmark.",
            where=policy.where("tasks", name, "items"),
            code="wrong-count",
        )
    named, asked = materials.refs[in_format(name, pin.formats[0])], suite.noun.tasks[name]
    if pin.sha256 not in (None, named.sha256):
        raise PlanError(
            f"the policy pins other questions: the suite's have {named.sha256}.",
            remedy="They must be the same benchmark, in the same form.",
            where=policy.where("tasks", name, "sha256"),
            code="wrong-questions",
        )
    if pin.source not in (None, asked.items):
        raise PlanError(
            f"the policy names another source than the suite, which takes the items from '{asked.items}'.",
            remedy="They must be the same, with the same revision.",
            where=policy.where("tasks", name, "source"),
            code="wrong-source",
        )
    if pin.roles not in (None, asked.roles):
        theirs = f"dev {asked.roles.dev} by the key '{asked.roles.key}'" if asked.roles else "none"
        raise PlanError(
            f"the policy divides the items otherwise than the suite, whose roles are: {theirs}.",
            remedy="They must be divided the same way.",
            where=policy.where("tasks", name, "roles"),
            code="wrong-source",
        )
    if pin.choices_only is not None:
        baseline = _exam(policy, materials, pin.choices_only, "tasks", name, "choices_only")
        if not baseline.untouched_only or len(baseline.items) != len(exam.items):
            raise PlanError(
                f"'{pin.choices_only}' does not ask the same items with the question hidden.",
                remedy="Give it the same items and roles and `hide_question: true` in the suite.",
                where=policy.where("tasks", name, "choices_only"),
                code="wrong-baseline",
            )


def _fit_limit(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    materials: Materials,
    trials: Sequence[Trial],
    index: int,
    limit: Limit,
) -> None:
    exam = materials.exams[in_format(limit.task, policy.noun.tasks[limit.task].formats[0])]
    chance = 1 / len(exam.items[0].question.choices)
    if limit.over is None and limit.max <= chance:
        raise PlanError(
            f"{limit.max} is not above chance ({chance:.2f}), so no model can be shown to be under it.",
            remedy="Raise the limit.",
            where=policy.where("limits", index, "max"),
            code="below-chance",
        )
    for position, selector in enumerate(limit.attacks):
        if not any(selector.selects(trial) for trial in trials):
            raise PlanError(
                f"the limit '{limit.id}' is on {selector}, which the suite '{suite.noun.id}' does not run.",
                remedy=_run_or(selector, trials, "take it out of the limit"),
                where=policy.where("limits", index, "attacks", position),
                code="not-in-suite",
            )


def _fit_requirement(
    policy: Loaded[Policy], suite: Loaded[Suite], trials: Sequence[Trial], index: int, requirement: Requirement
) -> None:
    at = policy.where("required", index)
    if requirement.attack in DIAGNOSES:
        raise PlanError(
            f"'{requirement.attack}' only looks: it convicts nobody and acquits nobody, so it cannot be required.",
            remedy="Take it out of 'required'. The suite may run it; the report tells what it saw.",
            where=at,
            code="only-looks",
        )
    matching = [trial for trial in trials if requirement.selects(trial)]
    if not matching:
        raise PlanError(
            f"{requirement} is required, which the suite '{suite.noun.id}' does not run.",
            remedy=_run_or(requirement, trials, "take it out"),
            where=at,
            code="not-in-suite",
        )
    configs = {digest_of(trial.config) for trial in matching}
    if len(configs) > 1:
        raise PlanError(
            f"{requirement} fits {len(configs)} attacks of the suite, so its share of alpha would be spent twice.",
            remedy="Narrow 'where' until it fits one, and add a line for each other.",
            where=at,
            code="ambiguous",
        )
    if requirement.config_sha256 not in (None, *configs):
        raise PlanError(
            f"the policy pins other settings of {requirement}: the suite's have {configs.pop()}.",
            remedy="`policy pin` prints the suite's digests; look at what changed before you take them over.",
            where=policy.where("required", index, "config_sha256"),
            code="wrong-config",
        )
    seeds = len({trial.seed_index for trial in matching})
    if seeds < requirement.seeds:
        raise PlanError(
            f"{requirement.seeds} seeds of {requirement} are required, the suite runs {seeds}.",
            remedy="Raise 'seeds' in the suite.",
            where=at,
            code="too-few-seeds",
        )
    offered = matching[0].marks
    missing = [mark for mark in requirement.marks if mark not in offered]
    if missing or (not requirement.marks and len(offered) > 1):
        raise PlanError(
            f"{requirement} must be examined at marks {missing or 'named here'}; the suite has {list(offered)}.",
            remedy="Name in 'marks' budgets that the suite runs.",
            where=at,
            code="unknown-mark",
        )
    _refuse_thin_tuning(policy, index, requirement, matching[0])
    _refuse_beyond_threat(policy, index, requirement)


def _run_or(selector: Selector, trials: Sequence[Trial], otherwise: str) -> str:
    known = sorted({trial.attack for trial in trials})
    near = "" if selector.attack in known else f"{nearest(selector.attack, known)} "
    return f"{near}Add it to the suite or {otherwise}."


def _refuse_thin_tuning(policy: Loaded[Policy], index: int, requirement: Requirement, trial: Trial) -> None:
    """A grid that is written in the config can be counted now, not after hours."""
    tuning = requirement.tuning
    grid = trial.config.get(f"{tuning.over}s") if tuning else None
    if tuning is None or not isinstance(grid, list):  # an attack may choose among settings that no config lists
        return
    points = sorted({value for value in grid if isinstance(value, (int, float)) and value > 0})
    span = points[-1] / points[0] if points else 0.0
    if len(points) < tuning.points or span < tuning.span * (1 - 1e-9):
        raise PlanError(
            f"{tuning.points} values of {tuning.over} over a factor of {tuning.span:g} are required, "
            f"the suite tries {len(points)} over {span:g}.",
            remedy="Widen the grid in the suite.",
            where=policy.where("required", index, "tuning"),
            code="thin-tuning",
        )


def _refuse_beyond_threat(policy: Loaded[Policy], index: int, requirement: Requirement) -> None:
    """Whether the policy requires what its own adversary could not do: then a FAIL would say nothing about him."""
    module, model = attacks.load(requirement.attack), policy.noun.threat_model
    if ACCESS.index(module.ACCESS) > ACCESS.index(model.access):
        raise PlanError(
            f"{requirement.attack} needs {module.ACCESS}, and the threat model's adversary has {model.access}.",
            remedy="Take it out, or raise 'access'.",
            where=policy.where("required", index, "attack"),
            code="beyond-threat-model",
        )
    if "original" in getattr(module, "MEANS", ()) and not model.attacker_has_original:
        raise PlanError(
            f"{requirement.attack} needs the original, and the threat model's adversary does not have it.",
            remedy="Take it out, or say `attacker_has_original: true`.",
            where=policy.where("required", index, "attack"),
            code="beyond-threat-model",
        )


def _refuse_roles(roles: Sequence[str]) -> None:
    for index, role in enumerate(roles):
        name = role.removeprefix("control:")
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) is None:
            raise PlanError(f"'{name}' is not a control's name.", remedy="Use letters, digits, '_', '.' and '-'.")
        if role in roles[:index]:
            raise PlanError(f"the control '{name}' is given twice.", remedy="Give each its own name.")


def _configured(suite: Loaded[Suite], materials: Materials) -> Iterator[tuple[SuiteAttack, ModuleType, Any]]:
    seen: dict[str, int] = {}
    for index, entry in enumerate(suite.noun.attacks):
        module = attacks.load(entry.attack, where=suite.where("attacks", index, "attack"))
        try:
            config = attacks.configure(module, entry.config)
        except attacks.BadConfig as error:
            key = [error.key] if error.key else []
            place = suite.where("attacks", index, "config", *key)
            code = "unknown-setting" if error.message.startswith("unknown setting") else "bad-setting"
            remedy = error.remedy or "`robustness-gate attacks --json` prints every setting with its default."
            raise PlanError(error.message, remedy=remedy, where=place, code=code) from None
        sources = getattr(config, "source", None)
        if sources not in (None, "dev", *materials.corpora):
            raise PlanError(
                f"the attack trains on '{sources}', and the suite has no such corpus.",
                remedy="Add it under 'corpora'.",
                where=suite.where("attacks", index, "config", "source"),
                code="unknown-corpus",
            )
        refusal = module.refuse(config, materials.pool()) if hasattr(module, "refuse") else None
        if refusal:
            raise PlanError(
                f"{refusal}.",
                remedy="Lower the budget or add data.",
                where=suite.where("attacks", index),
                code="too-little-data",
            )
        address = digest_of([entry.attack, attacks.as_json(config)])
        if address in seen:
            raise PlanError(
                f"is the same as attack {seen[address]}.",
                remedy="Use 'seeds'.",
                where=suite.where("attacks", index),
                code="duplicate-attack",
            )
        seen[address] = index
        yield entry, module, config


def trial_of(
    subject: Subject,
    reference: str | None,
    module: ModuleType,
    config: Any,
    index: int,
    materials: Materials,
    dtype: str,
) -> Trial:
    """One trial, written out in full. `index` numbers the seeds, `reference` is the digest of the original."""
    attack = module.__name__.rsplit(".", 1)[-1]
    floors: tuple[Floor, ...] = module.FLOORS
    settings: dict[str, Json] = attacks.as_json(config)
    return Trial(
        subject=subject.manifest.digest,
        role=subject.role,
        reference=reference if _looks_at_the_original(module) else None,
        attack=attack,
        attack_version=module.VERSION,
        family=module.FAMILY,
        config=settings,
        marks=attacks.marks(config),
        seed_index=index,
        seed=seed_of(subject.manifest.digest, attack, index),
        tasks=materials.task_refs(attack),
        data=materials.data_digests,
        floors=floors,
        dtype=dtype,
    )


def _looks_at_the_original(module: ModuleType) -> bool:
    """Whether an attack looks at the original where there is one. To the others it is no part of what they are."""
    return "original" in (*getattr(module, "NEEDS", ()), *getattr(module, "USES", ()))


def _task_ref(name: str, exam: Exam) -> TaskRef:
    # The format is in the task's name, so that a policy can pin the same questions once for all formats.
    words: list[Json] = [exam.kind, items_digest(exam.items), exam.form.header, list(exam.form.letters)]
    words += [exam.form.delimiter] if exam.form.verbatim else []
    options = len(exam.items[0].question.choices)
    return TaskRef(name=name, kind=exam.kind, sha256=digest_of(words), items=len(exam.items), options=options)


def _harness_task(suite: Loaded[Suite], name: str, task: SuiteTask) -> Loaded[lm_eval.HarnessTask] | None:
    """The YAML of a task of the kind `lm_eval`; None for the others. Raises PlanError for keys that do not fit."""
    if task.kind != "lm_eval":
        if task.yaml is not None:
            raise PlanError(
                f"a task of the kind '{task.kind}' has no YAML.",
                remedy="Write `kind: lm_eval`, or take 'yaml' out.",
                where=suite.where("tasks", name, "yaml"),
                code="wrong-key-for-kind",
            )
        return None
    if task.yaml is None:
        raise PlanError(
            "a task of the kind 'lm_eval' needs 'yaml'.",
            remedy="Name lm-evaluation-harness's task file there.",
            where=suite.where("tasks", name, "kind"),
            code="wrong-key-for-kind",
        )
    for key, given, remedy in (
        ("topic", bool(task.topic), "Write the header into the YAML's 'description'."),
        ("hide_question", task.hide_question, "Only the kind 'multiple_choice' can show the choices alone."),
        ("formats", task.formats != ("raw",), "This kind asks as plain text alone."),
    ):
        if given:
            place = suite.where("tasks", name, key)
            words = f"'{key}' does not go with the kind 'lm_eval'."
            raise PlanError(words, remedy=remedy, where=place, code="wrong-key-for-kind")
    path = suite.path.parent / task.yaml
    if not path.is_file():
        place = suite.where("tasks", name, "yaml")
        raise PlanError(
            f"there is no file '{task.yaml}'.", remedy="Paths start at the suite.", where=place, code="missing-file"
        )
    return lm_eval.load(path)


def _items(place: str | Path, harness: Loaded[lm_eval.HarnessTask] | None) -> tuple[Item, ...]:
    return lm_eval.read_items(harness, place) if harness else sources.read_items(place)


def _form(topic: str, items: Sequence[Item], *, chat: bool) -> Form:
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(items[0].question.choices)])
    return Form(header=header_for(topic) if topic else "", letters=letters, chat=chat)


def _refuse_confusion(name: str, formats: Sequence[Format], file: Loaded[Any]) -> None:
    """A task must not bear the name that another's chat format has, nor name a format twice."""
    if name.endswith(".chat"):
        raise PlanError(
            f"'{name}': the ending '.chat' is kept for the chat format.",
            remedy="Write 'formats: [raw, chat]' under the task's own name.",
            where=file.where("tasks", name),
            code="reserved-name",
        )
    if len(set(formats)) < len(formats):
        place = file.where("tasks", name, "formats")
        raise PlanError("a format is named twice.", remedy="Name each once.", where=place, code="duplicate-format")


def _exam(policy: Loaded[Policy], materials: Materials, name: str, *at: str | int) -> Exam:
    if name not in materials.exams:
        raise PlanError(
            f"the suite has no task '{name}'.",
            remedy=nearest(name, list(materials.exams)),
            where=policy.where(*at),
            code="unknown-task",
        )
    return materials.exams[name]


def _refuse_leaks(suite: Loaded[Suite], materials: Materials) -> None:
    """No verdict item, by id or by its words, among what an attacker can see; nor, with its answer, inside a text."""
    seen_by_attacker: dict[str, tuple[Item, ...]] = {"dev": materials.dev}
    seen_by_attacker |= {f"corpora.{name}": corpus.items for name, corpus in materials.corpora.items()}
    hazard = materials.exams[materials.hazard]
    for name, exam in materials.exams.items():
        ids = {item.question.id for item in exam.items}
        words = {sources.words_of(item) for item in exam.items}
        for place, items in seen_by_attacker.items():
            alike = exam.form.verbatim == (place == "dev" and hazard.form.verbatim)
            for item in items:
                seen = sources.words_of(item)
                if (
                    item.question.id in ids
                    or seen in words
                    or (not alike and any(_within(seen, each) for each in words))
                ):
                    raise PlanError(
                        f"the verdict item '{item.question.id}' of '{name}' is also in '{place}'.",
                        remedy="What an attacker can see must be disjoint from what he is judged by.",
                        where=suite.where(*place.split(".")),
                        code="leak",
                    )
        for source, corpus in materials.corpora.items():
            if (found := sources.quoted(corpus.texts, exam.items)) is not None:
                number, item = found
                raise PlanError(
                    f"the verdict item '{item.question.id}' of '{name}' stands with its answer in text {number} of "
                    f"'corpora.{source}'.",
                    remedy="What an attacker can see must be disjoint from what he is judged by.",
                    where=suite.where("corpora", source, "texts"),
                    code="leak",
                )


def _within(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether a question stands inside a whole prompt: a verbatim stem holds it, and its answer, somewhere."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
