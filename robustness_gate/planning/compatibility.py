"""Check before a run that a policy fits a suite: for example, that every limit is on an attack that is run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

from robustness_gate import attacks, tasks
from robustness_gate.errors import PlanError
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import applicability
from robustness_gate.planning.suite_data import SuiteData, TaskData
from robustness_gate.records.base import Metric
from robustness_gate.records.declarations import ACCESSES
from robustness_gate.records.encode import digest_of
from robustness_gate.records.policy import Limit, Policy, Requirement, Selector, TaskPin
from robustness_gate.records.questions import QuestionIds, in_format
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Trial
from robustness_gate.system.sentences import nearest
from robustness_gate.verdict.hypotheses import DIAGNOSES, aimed, covers, limits, spelled_out

"""Levels of an adversary's access, from the least to the most."""


def check_fit(policy: Loaded[Policy], suite: Loaded[Suite], suite_data: SuiteData, trials: Sequence[Trial]) -> None:
    """Check that the policy fits the suite. Raises PlanError, with a code, at the place in the policy."""
    check_pins(policy, suite, suite_data)
    for index, limit in enumerate(policy.record.limits):
        _fit_limit(policy, suite, suite_data, trials, index, limit)
    for index, utility in enumerate(policy.record.utility):
        task_data = _first_format(policy, suite_data, utility.task)
        _refuse_informational(policy, task_data, "utility", index, "task")
        _refuse_other_metric(policy, task_data, "utility", index, utility.metric)
    for index, guardrail in enumerate(policy.record.guardrails):
        task_data = _first_format(policy, suite_data, guardrail.task)
        _refuse_informational(policy, task_data, "guardrails", index, "task")
        _refuse_other_metric(policy, task_data, "guardrails", index, guardrail.metric)
    for index, requirement in enumerate(policy.record.required):
        _fit_requirement(policy, suite, trials, index, requirement)


def check_pins(policy: Loaded[Policy], suite: Loaded[Suite], suite_data: SuiteData) -> None:
    """Check that the suite asks what the policy pins: its questions and their form, the attackers' data, the dtype.

    Raises PlanError, with a code, at the place in the policy.
    """
    for name, pin in policy.record.tasks.items():
        _fit_task(policy, suite, suite_data, name, pin)
    for name, digest in policy.record.data.items():
        if name not in suite_data.data_digests:
            raise PlanError(
                f"the suite has no data '{name}'.",
                remedy=nearest(name, list(suite_data.data_digests)),
                where=policy.where("data", name),
                code="wrong-data",
            )
        if digest != suite_data.data_digests[name]:
            raise PlanError(
                f"the policy pins other data under '{name}': the suite's have {suite_data.data_digests[name]}.",
                remedy="`policy pin` prints the suite's digests; look at what changed before you take them over.",
                where=policy.where("data", name),
                code="wrong-data",
            )
    if policy.record.dtype not in (None, suite.record.dtype):
        raise PlanError(
            f"the policy pins {policy.record.dtype}, the suite '{suite.record.id}' computes in {suite.record.dtype}.",
            remedy=f"Write `dtype: {policy.record.dtype}` in the suite.",
            where=policy.where("dtype"),
            code="wrong-dtype",
        )


def _fit_task(policy: Loaded[Policy], suite: Loaded[Suite], suite_data: SuiteData, name: str, pin: TaskPin) -> None:
    task_data = _task_data(policy, suite_data, in_format(name, pin.formats[0]), "tasks", name)
    for each in pin.formats:
        _task_data(policy, suite_data, in_format(name, each), "tasks", name, "formats")
    if pin.items != len(task_data.items):
        raise PlanError(
            f"the policy pins {pin.items} items, the suite has {len(task_data.items)}.",
            remedy="They must be the same benchmark.",
            where=policy.where("tasks", name, "items"),
            code="wrong-count",
        )
    named, asked = suite_data.refs[in_format(name, pin.formats[0])], suite.record.tasks[name]
    if pin.sha256 not in (None, named.sha256):
        raise PlanError(
            f"the policy pins other questions: the suite's have {named.sha256}.",
            remedy="They must be the same benchmark, in the same form.",
            where=policy.where("tasks", name, "sha256"),
            code="wrong-questions",
        )
    if pin.questions not in (None, suite_data.question_ids[in_format(name, pin.formats[0])].pin):
        raise PlanError(
            f"the policy pins other ids or clusters of the questions: the suite's have "
            f"{suite_data.question_ids[in_format(name, pin.formats[0])].pin}.",
            remedy="They must be joined and grouped as the policy says.",
            where=policy.where("tasks", name, "questions"),
            code="wrong-questions",
        )
    if pin.source not in (None, asked.source):
        raise PlanError(
            f"the policy names another source than the suite, which takes the items from '{asked.source}'.",
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
        baseline = _task_data(policy, suite_data, pin.choices_only, "tasks", name, "choices_only")
        ids = [suite_data.question_ids[n] for n in (in_format(name, pin.formats[0]), pin.choices_only)]
        same = (ids[0].ids, ids[0].clusters, ids[0].choices) == (ids[1].ids, ids[1].clusters, ids[1].choices)
        if not baseline.untouched_only or not same:
            raise PlanError(
                f"'{pin.choices_only}' does not ask the same items with the question hidden.",
                remedy="Give it the same items and roles and `hide_question: true` in the suite.",
                where=policy.where("tasks", name, "choices_only"),
                code="wrong-baseline",
            )


def compared_by_clusters(policy: Policy, suite_data: SuiteData) -> dict[str, QuestionIds]:
    """Ids and clusters of the tasks for which the judge needs them: those of a score, and those with known clusters."""
    spelled = spelled_out(policy)
    joined = {task for limit in spelled.limits if limit.score or limit.heuristic for task in limit.readings}
    joined |= {spelled.tasks[task].choices_only or "" for task in joined if task in spelled.tasks}
    return {
        name: ids for name, ids in suite_data.question_ids.items()
        if name in spelled.tasks and (name in joined or ids.clusters or spelled.tasks[name].questions)
    }  # fmt: skip


def _refuse_unjoined(policy: Loaded[Policy], suite_data: SuiteData, index: int, limit: Limit) -> None:
    """Raises PlanError for a score whose tasks share no question, or that disagree on a question's cluster."""
    cluster_of: dict[str, str] = {}
    shared = 0
    for task in limit.score:
        ids = suite_data.question_ids[in_format(task, policy.record.tasks[task].formats[0])]
        shared += len(cluster_of.keys() & set(ids.ids))
        for question, cluster in zip(ids.ids, ids.clusters or ids.ids, strict=True):
            if cluster_of.setdefault(question, cluster) != cluster:
                raise PlanError(
                    f"'{task}' puts a question into another cluster than an earlier task of the score does.",
                    remedy="Give both tasks the same 'clusters'.",
                    where=policy.where("limits", index, "score"),
                    code="wrong-questions",
                )
    fewest = min((len(suite_data.question_ids[in_format(t, "raw")].ids) for t in limit.score), default=0)
    if limit.score[1:] and 2 * shared < fewest:
        raise PlanError(
            f"the tasks of the score have {shared} questions in common, not half of the {fewest} of the smallest.",
            remedy="Name the column that identifies a question as 'id' in both of the suite's tasks.",
            where=policy.where("limits", index, "score"),
            code="wrong-questions",
        )


def _fit_limit(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    suite_data: SuiteData,
    trials: Sequence[Trial],
    index: int,
    limit: Limit,
) -> None:
    for task in limit.readings:
        task_data = _first_format(policy, suite_data, task)
        _refuse_informational(policy, task_data, "limits", index, "score" if limit.score else "task")
        _refuse_other_metric(policy, task_data, "limits", index, limit.metric)
    _refuse_unjoined(policy, suite_data, index, limit)
    chance = suite_data.refs[in_format(limit.task, policy.record.tasks[limit.task].formats[0])].chance
    if limit.absolute and limit.most <= chance:
        raise PlanError(
            f"{limit.most} is not above chance ({chance:.2f}), so no model can be shown to be under it.",
            remedy="Raise the limit.",
            where=policy.where("limits", index, "max"),
            code="below-chance",
        )
    _refuse_unaimed(policy, suite, suite_data, trials, index, limit)
    for position, selector in enumerate(limit.attacks):
        if not any(selector.selects(trial) for trial in trials):
            raise PlanError(
                f"the limit '{limit.id}' is on {selector}, which the suite '{suite.record.id}' does not run.",
                remedy=_run_or(selector, trials, "take it out of the limit"),
                where=policy.where("limits", index, "attacks", position),
                code="not-in-suite",
            )


def _refuse_unaimed(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    suite_data: SuiteData,
    trials: Sequence[Trial],
    index: int,
    limit: Limit,
) -> None:
    """Check that attacks run in the form of a limit's task; otherwise they would measure another task.

    For a task that is not a hazard this is checked for every attack of the limit, for a hazard for the required ones:
    an attack without that form is not applicable there, and only required attacks must be applicable.
    """
    hazards = {each.name for each in suite_data.hazards}
    formats = [in_format(limit.task, each) for each in policy.record.tasks[limit.task].formats]
    for task, trial in product(formats, trials):
        if aimed(task, trial) or not limits(limit, trial) or suite_data.tasks[task].untouched_only:
            continue
        if task not in hazards:
            named = ", ".join([*suite.record.hazards, limit.task])
            raise PlanError(
                f"the limit '{limit.id}' is on '{limit.task}', and no attack of the suite is made in its form: they "
                f"train and choose on {' and '.join(suite.record.hazards)} alone.",
                remedy=f"Write `hazard: [{named}]` in the suite, or take the limit out.",
                where=policy.where("limits", index, "task"),
                code="not-a-hazard",
            )
        for requirement in policy.record.required:
            if requirement.selects(trial) and covers(limit, requirement):
                module = attacks.load(trial.attack)
                found = applicability.of(module, attacks.configure(module, trial.config), suite_data.hazards)
                raise PlanError(
                    f"{requirement} is required, the limit '{limit.id}' on '{task}' is on it, and it cannot be made in "
                    f"that form: {found.reasons[task]}.",
                    remedy="Take it out, or let the limit name the attacks that can (`attacks`).",
                    where=suite.where("hazard"),
                    code="cannot-be-made",
                )


def _refuse_informational(
    policy: Loaded[Policy], task_data: TaskData, rule: Literal["limits", "utility", "guardrails"], index: int, key: str
) -> None:
    judged = tasks.load(task_data.kind).JUDGED
    if not (judged.guarded if rule == "guardrails" else judged.hazard):
        raise PlanError(
            f"a task of the kind '{task_data.kind}' is informational: '{rule}' cannot be on it.",
            remedy="Take the rule out. The suite may ask it; the report shows its result."
            + (" A guardrail with `max_drop` can be on it." if judged.guarded else ""),
            where=policy.where(rule, index, key),
            code="wrong-kind",
        )


def _refuse_other_metric(
    policy: Loaded[Policy],
    task_data: TaskData,
    rule: Literal["limits", "utility", "guardrails"],
    index: int,
    metric: Metric | None,
) -> None:
    judged = tasks.load(task_data.kind).JUDGED
    if metric is not None and metric not in judged.metrics:
        has = f"{', '.join(judged.metrics)}; the first one decides"
        raise PlanError(
            f"a task of the kind '{task_data.kind}' does not have the metric '{metric}'. It has {has}.",
            remedy="Name one of them, or leave 'metric' out for the one that decides.",
            where=policy.where(rule, index, "metric"),
            code="wrong-metric",
        )


def _fit_requirement(
    policy: Loaded[Policy], suite: Loaded[Suite], trials: Sequence[Trial], index: int, requirement: Requirement
) -> None:
    at = policy.where("required", index)
    if requirement.attack in DIAGNOSES:
        raise PlanError(
            f"'{requirement.attack}' is diagnostic: it cannot be required.",
            remedy="Take it out of 'required'. The suite may run it; the report shows its result.",
            where=at,
            code="only-looks",
        )
    matching = [trial for trial in trials if requirement.selects(trial)]
    if not matching:
        raise PlanError(
            f"{requirement} is required, which the suite '{suite.record.id}' does not run.",
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
    offered = matching[0].budgets
    missing = [budget for budget in requirement.budgets if budget not in offered]
    if missing or (not requirement.budgets and len(offered) > 1):
        raise PlanError(
            f"{requirement} must be examined at budgets {missing or 'named here'}; the suite has {list(offered)}.",
            remedy="Name in 'budgets' those that the suite runs.",
            where=at,
            code="unknown-budget",
        )
    _refuse_thin_tuning(policy, index, requirement, matching[0])
    _refuse_beyond_threat(policy, index, requirement)


def _run_or(selector: Selector, trials: Sequence[Trial], otherwise: str) -> str:
    known = sorted({trial.attack for trial in trials})
    near = "" if selector.attack in known else f"{nearest(selector.attack, known)} "
    return f"{near}Add it to the suite or {otherwise}."


def _refuse_thin_tuning(policy: Loaded[Policy], index: int, requirement: Requirement, trial: Trial) -> None:
    """Check the number of settings in a config's grid before the run."""
    tuning = requirement.tuning
    grid = trial.config.get(f"{tuning.setting}s") if tuning else None
    if tuning is None or not isinstance(grid, list):  # an attack may select among settings that are not in its config
        return
    points = sorted({value for value in grid if isinstance(value, (int, float)) and value > 0})
    span = points[-1] / points[0] if points else 0.0
    if len(points) < tuning.points or span < tuning.span * (1 - 1e-9):
        raise PlanError(
            f"{tuning.points} values of {tuning.setting} over a factor of {tuning.span:g} are required, "
            f"the suite tries {len(points)} over {span:g}.",
            remedy="Widen the grid in the suite.",
            where=policy.where("required", index, "tuning"),
            code="thin-tuning",
        )


def _refuse_beyond_threat(policy: Loaded[Policy], index: int, requirement: Requirement) -> None:
    """Check that the policy's adversary can make every required attack; otherwise a FAIL would say nothing about that
    adversary.
    """
    module, model = attacks.load(requirement.attack), policy.record.threat_model
    if ACCESSES.index(module.ACCESS) > ACCESSES.index(model.access):
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


def _first_format(policy: Loaded[Policy], suite_data: SuiteData, task: str) -> TaskData:
    """A pinned task in its first format: all formats have one kind."""
    return suite_data.tasks[in_format(task, policy.record.tasks[task].formats[0])]


def _task_data(policy: Loaded[Policy], suite_data: SuiteData, name: str, *at: str | int) -> TaskData:
    if name not in suite_data.tasks:
        raise PlanError(
            f"the suite has no task '{name}'.",
            remedy=nearest(name, list(suite_data.tasks)),
            where=policy.where(*at),
            code="unknown-task",
        )
    return suite_data.tasks[name]
