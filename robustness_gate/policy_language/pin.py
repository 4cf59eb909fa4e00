"""The digests of a suite's questions, data and settings, as lines to paste into a policy.

`planning` reads the suite and makes its trials; this module only prints their digests under the policy's names. Pinning
is a decision: look at the suite's contents before you paste.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustness_gate.records.encode import digest_of
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import QuestionIds, TaskRef, in_format
from robustness_gate.records.trial import Trial


def lines(
    policy: Policy,
    refs: Mapping[str, TaskRef],
    data: Mapping[str, str],
    trials: Sequence[Trial],
    sources: Mapping[str, str],
    questions: Mapping[str, QuestionIds],
) -> Iterator[str]:
    """YAML that pins the contents of a suite.

    Args:
        policy: the policy whose tasks and requirements are pinned.
        refs: the suite's tasks by name and format.
        data: digests of dev items and corpora.
        trials: the candidate's trials, from a plan of policy and suite.
        sources: where the suite takes each task's items from.
        questions: ids and clusters of the tasks that a rule joins or compares by clusters.
    """
    yield "tasks:"
    for name, task in policy.tasks.items():
        ref = refs[in_format(name, task.formats[0])]
        # a path depends on the suite's location; only a revision that anyone can fetch is worth pinning
        source = f", source: {sources[name]}" if "://" in sources.get(name, "") else ""
        ids = f", questions: {questions[name].pin}" if name in questions else ""
        yield f"  {name}: {{items: {ref.items}, sha256: {ref.sha256}{ids}{source}}}"
    if data:
        yield "data:"
        yield from (f"  {name}: {digest}" for name, digest in sorted(data.items()))
    plugins = sorted({(each.distribution, each.sha256) for trial in trials for each in trial.plugins if each.pinned})
    if plugins:
        yield "plugins:   # third-party code: read it before you name it"
        yield from (f"  {name}: {digest}" for name, digest in plugins)
    yield "required:   # add to each line"
    for requirement in policy.required:
        configs = sorted({digest_of(trial.config) for trial in trials if requirement.selects(trial)})
        yield f"  # {requirement}"
        yield from (f"  config_sha256: {digest}" for digest in configs)
