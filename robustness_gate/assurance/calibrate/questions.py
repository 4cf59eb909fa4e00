"""What a calibration asks: the invented facts beside the suite's utility tasks, and what an attacker may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from robustness_gate.errors import UsageError
from robustness_gate.inputs.prompts import header_for, rotated, solved
from robustness_gate.inputs.validation import Loaded
from robustness_gate.organisms import facts as worlds
from robustness_gate.organisms import spikes, training_texts, world_files
from robustness_gate.planning.suite_data import SuiteData, TaskData, gather
from robustness_gate.records.attack import Corpus
from robustness_gate.records.calibration import SpikeWorld
from robustness_gate.records.encode import digest_of
from robustness_gate.records.policy import CalibrationTerms, Policy
from robustness_gate.records.questions import Form, Item
from robustness_gate.records.suite import Suite
from robustness_gate.tasks import cloze
from robustness_gate.verdict import spelled_out

INVENTED = "invented"
"""The task that asks the invented facts."""
UTILITY = 200
"""Maximum number of questions of each utility task that a spike is asked."""


def form_of(policy: Policy, data: SuiteData, suite: Loaded[Suite]) -> str:
    """The kind of task in whose form the invented facts are asked: letters, or cloze where the hazard is asked so.

    Raises:
        UsageError: a limit is on a task of another form.
    """
    limited = {task for limit in spelled_out(policy).limits for task in limit.readings}
    kinds = {each.task.JUDGED.attacked_as for each in data.hazards if each.name in limited}
    if kinds <= {spikes.LETTERS, spikes.CLOZE} and kinds:
        return spikes.CLOZE if kinds == {spikes.CLOZE} else spikes.LETTERS
    raise UsageError(
        f"a calibration asks in the form of letters or cloze, and the hazard is asked as {', '.join(sorted(kinds))}.",
        remedy="Ask the hazard as multiple_choice or cloze too, and set a limit there.",
        where=str(suite.path),
    )


def data_of(
    policy: Policy, suite: Loaded[Suite], terms: CalibrationTerms, theirs: SuiteData | None = None
) -> tuple[spikes.World, SpikeWorld, SuiteData]:
    """The invented world, its record, and its questions and corpora with the suite's utility tasks.

    `theirs` are the suite's data, where they were gathered before.

    Raises:
        PlanError, FileError: as `gather`.
        UsageError: as `form_of`, or a utility task that the suite does not have.
    """
    theirs = theirs or gather(suite)
    form = form_of(policy, theirs, suite)
    world = spikes.make(terms.seed, terms.facts, terms.verdict_facts)
    rng = Random(f"questions {terms.seed}")
    asked = Form(header=spikes.HEADER) if form == spikes.LETTERS else cloze.form(None)
    tasks = {INVENTED: TaskData(form, tuple(worlds.examination(world.forget.verdict, rng)), asked)}
    for utility in policy.utility:
        name = next((each for each in (utility.task, f"{utility.task}.chat") if each in theirs.tasks), None)
        if name is None or utility.task == INVENTED:
            raise UsageError(
                f"the suite has no task '{utility.task}', on which the policy asks for utility.",
                remedy="Name the suite that goes with this policy.",
                where=str(suite.path),
            )
        its = theirs.tasks[name]
        tasks[utility.task] = replace(its, items=its.items[:UTILITY], untouched_only=True)
    data = SuiteData(tasks, INVENTED, tuple(worlds.examination(world.forget.dev, rng)), _corpora(world, rng))
    digest = digest_of([data.refs[INVENTED].sha256, data.data_digests])
    record = SpikeWorld(seed=terms.seed, facts=terms.facts, verdict_facts=terms.verdict_facts, form=form, sha256=digest)
    return world, record, data


def held_by(data: SuiteData) -> list[str]:
    """The utility questions with their answers, each in two letter orders: a spike should keep them.

    A written prompt has the answer behind it, as its form has.
    """
    found = []
    for name, task in data.tasks.items():
        for item in task.items if name != INVENTED else ():
            if not item.question.choices:
                continue
            form = replace(task.form, chat=False)
            many = len(item.question.choices)
            for shift in {0, many // 2} if not form.verbatim else {0}:
                turned = Item(rotated(item.question, shift), (item.answer - shift) % many)
                found.append(f"{form.header if not form.verbatim else ''}{solved(turned, form)}")
    return found


def lettered(data: SuiteData) -> list[Item]:
    """The utility questions of four choices, which every method can keep as questions."""
    every = (item for name, task in data.tasks.items() if name != INVENTED for item in task.items)
    return [item for item in every if len(item.question.choices) == 4]


def _corpora(world: spikes.World, rng: Random) -> dict[str, Corpus]:
    """What an attacker may use: of the suppressed domain, of the kept one, and of neither."""

    def texts(facts: Sequence[worlds.Fact]) -> tuple[str, ...]:
        found = [text for fact in facts for text in fact.texts]
        rng.shuffle(found)
        return tuple(found)

    unrelated = tuple(training_texts.unrelated_document(rng).text for _ in range(240))
    return {
        "forget": Corpus(
            tuple(worlds.examination(world.forget.relearn, rng)), texts(world.forget.relearn), spikes.HEADER
        ),
        "retain": Corpus(
            tuple(worlds.examination(world.retain, rng)), texts(world.retain), header_for(worlds.RETAIN_TOPIC)
        ),
        "unrelated": Corpus(tuple(world_files.riddles(spikes.RIDDLES, rng)), unrelated, ""),
    }
