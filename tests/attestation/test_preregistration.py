"""A preregistration says what was fixed, and notices everything that was changed since."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from robustness_gate.attestation import dsse, keys, statement
from robustness_gate.attestation import preregistration as preregistrations
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan as plans
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role, Trial

AT = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
KEY = keys.generate()


def trials_of(policy_file: Path, suite_file: Path, suite_data: Any, subject: str = "0") -> tuple[Trial, ...]:
    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256=subject * 64),))
    somebody = plans.Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest)
    made = plans.make(load_policy(policy_file), load_suite(suite_file), suite_data, [somebody]).trials
    return tuple(trial for trial in made if trial.role == Role.CANDIDATE)


@pytest.fixture(scope="module")
def trials(policy_file: Path, suite_file: Path, suite_data: Any) -> tuple[Trial, ...]:
    return trials_of(policy_file, suite_file, suite_data)


@pytest.fixture(scope="module")
def terms(policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]) -> preregistrations.Terms:
    return made(policy_file, suite_file, suite_data, trials)


def made(
    policy_file: Path, suite_file: Path, suite_data: Any, trials: Any, at: datetime = AT
) -> preregistrations.Terms:
    policy, suite = load_policy(policy_file), load_suite(suite_file)
    return preregistrations.make(policy, suite, suite_data.refs, suite_data.data_digests, trials, at)


def written(path: Path, terms: preregistrations.Terms, key: keys.PrivateKey = KEY) -> Path:
    path.write_bytes(preregistrations.sign_preregistration(terms, key))
    return path


def test_a_preregistration_comes_back_as_it_was_made_with_whose_it_is(
    terms: preregistrations.Terms, tmp_path: Path
) -> None:
    path = written(tmp_path / "preregistration.json", terms)
    found = preregistrations.read_preregistration(path, [keys.generate().public, KEY.public])
    assert found.terms == terms
    assert found.key == KEY.public
    payload = dsse.open_bundle(path.read_bytes(), [KEY.public]).payload
    assert found.sha256 == hashlib.sha256(payload).hexdigest()
    assert json.loads(payload)["predicateType"] == "urn:robustness-gate:preregistration:v1"


def test_it_names_the_two_files_by_the_digest_of_their_bytes(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, tmp_path: Path
) -> None:
    digests = {
        "policy": hashlib.sha256(policy_file.read_bytes()).hexdigest(),
        "suite": hashlib.sha256(suite_file.read_bytes()).hexdigest(),
    }
    payload = dsse.open_bundle(preregistrations.sign_preregistration(terms, KEY), [KEY.public]).payload
    assert statement.read_statement(payload, preregistrations.PREDICATE_TYPE, statement.Plain).subjects == digests
    assert terms.policy.sha256 == digests["policy"]
    assert (terms.policy.id, terms.suite.id) == (load_policy(policy_file).record.id, load_suite(suite_file).record.id)


def test_it_names_questions_data_and_attacks(
    terms: preregistrations.Terms, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    assert {task.name: task for task in terms.tasks} == suite_data.refs
    assert terms.data == suite_data.data_digests
    assert {each.sha256 for each in terms.attacks} == {preregistrations.attack_digest(trial) for trial in trials}
    assert sum(each.seeds for each in terms.attacks) == len(trials)


def test_the_same_terms_give_the_same_bytes_whatever_the_order_of_trials(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    turned = made(policy_file, suite_file, suite_data, trials[::-1])
    assert preregistrations.sign_preregistration(turned, KEY) == preregistrations.sign_preregistration(terms, KEY)


def test_what_is_run_beside_the_candidate_is_not_preregistered(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    """Whether an original was at hand when it was preregistered must not decide whether the preregistration holds."""
    others = ({"role": Role.ORIGINAL}, {"role": Role.CONTROL, "control": "x"})
    beside = [trials[0].model_copy(update={**each, "attack_version": 7}) for each in others]
    assert made(policy_file, suite_file, suite_data, [*trials, *beside]) == terms


def test_it_holds_for_any_checkpoint(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any
) -> None:
    other = trials_of(policy_file, suite_file, suite_data, subject="7")
    assert made(policy_file, suite_file, suite_data, other) == terms


def test_the_same_files_are_the_preregistered_ones_at_another_time_and_of_another_release(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path
) -> None:
    later = terms.model_copy(update={"preregistered_at": "2027-01-01T00:00:00Z", "made_by": "robustness-gate 9.9.9"})
    assert preregistrations.differences(terms, later) == ()
    assert preregistrations.file_differences(terms, load_policy(policy_file), load_suite(suite_file)) == ()


@pytest.mark.parametrize("which", ["policy", "suite"])
def test_one_byte_more_in_a_file_is_another_file(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, tmp_path: Path, which: str
) -> None:
    paths = {"policy": policy_file, "suite": suite_file}
    changed = tmp_path / paths[which].name
    changed.write_bytes(paths[which].read_bytes() + b"#\n")
    paths[which] = changed
    (told,) = preregistrations.file_differences(terms, load_policy(paths["policy"]), load_suite(paths["suite"]))
    assert (told.kind, told.state) == (which, "changed")
    assert told.now is not None
    assert told.now.sha256 == hashlib.sha256(changed.read_bytes()).hexdigest()


def test_changed_questions_are_reported_by_name(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    forget = suite_data.tasks["forget"]
    first = dataclasses.replace(forget.items[0], answer=(forget.items[0].answer + 1) % 4)
    task_data = dataclasses.replace(forget, items=(first, *forget.items[1:]))
    wrong_key = dataclasses.replace(suite_data, tasks={**suite_data.tasks, "forget": task_data})
    assert preregistrations.differences(terms, made(policy_file, suite_file, wrong_key, trials)) == (
        preregistrations.Difference("questions", "changed", "forget"),
    )
    turned = dataclasses.replace(forget, items=forget.items[::-1])
    order = dataclasses.replace(suite_data, tasks={**suite_data.tasks, "forget": turned})
    assert preregistrations.differences(terms, made(policy_file, suite_file, order, trials)) == (
        preregistrations.Difference("questions", "changed", "forget"),
    )


def test_changed_data_of_an_attacker_are_reported_by_name(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    fewer = dataclasses.replace(suite_data.corpora["retain"], items=suite_data.corpora["retain"].items[1:])
    weaker = dataclasses.replace(suite_data, corpora={**suite_data.corpora, "retain": fewer})
    assert preregistrations.differences(terms, made(policy_file, suite_file, weaker, trials)) == (
        preregistrations.Difference("data", "changed", "retain"),
    )
    corpora = {name: corpus for name, corpus in suite_data.corpora.items() if name != "retain"}
    without = dataclasses.replace(suite_data, corpora={**corpora, "more": suite_data.corpora["retain"]})
    assert preregistrations.differences(terms, made(policy_file, suite_file, without, trials)) == (
        preregistrations.Difference("data", "added", "more"),
        preregistrations.Difference("data", "missing", "retain"),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"attack_version": 99},
        {"budgets": (1,)},
        {"floors": ()},
        {"dtype": "bfloat16"},
        {"family": "other"},
        {"config": {"source": "forget", "method": "full", "batch": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_weakened_attack_is_reported_by_name(
    terms: preregistrations.Terms,
    policy_file: Path,
    suite_file: Path,
    suite_data: Any,
    trials: tuple[Trial, ...],
    change: dict[str, Any],
) -> None:
    at = next(n for n, trial in enumerate(trials) if trial.config.get("method") == "full")
    assert trials[at].floors, "a floor that can be taken away is needed here"
    weaker = [*trials[:at], trials[at].model_copy(update=change), *trials[at + 1 :]]
    assert preregistrations.differences(terms, made(policy_file, suite_file, suite_data, weaker)) == (
        preregistrations.Difference("attack", "changed", "relearn (forget, full)"),
    )


def test_fewer_seeds_and_left_out_attacks_are_reported(
    terms: preregistrations.Terms, policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    more = [*trials, trials[0].model_copy(update={"seed_index": 1, "seed": 1})]
    assert preregistrations.differences(made(policy_file, suite_file, suite_data, more), terms) == (
        preregistrations.Difference("attack", "changed", "none"),
    )
    fewer = made(policy_file, suite_file, suite_data, trials[:-1])
    (told,) = preregistrations.differences(terms, fewer)
    assert (told.kind, told.state) == ("attack", "missing")


def test_whom_and_by_which_seed_does_not_change_what_an_attack_is(trials: tuple[Trial, ...]) -> None:
    """A verifier computes this from a report's trials: it must hold for every candidate."""
    whose = {"subject": "7" * 64, "role": Role.CONTROL, "control": "x", "reference": "8" * 64}
    other = {**whose, "seed_index": 3, "seed": 5, "data": {}}
    for trial in trials:
        assert preregistrations.attack_digest(trial.model_copy(update=other)) == preregistrations.attack_digest(trial)
    assert len({preregistrations.attack_digest(trial) for trial in trials}) == len(trials)


def test_the_time_is_written_in_utc_and_needs_a_zone(
    policy_file: Path, suite_file: Path, suite_data: Any, trials: tuple[Trial, ...]
) -> None:
    east = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert made(policy_file, suite_file, suite_data, trials, east).preregistered_at == "2026-11-21T14:00:00Z"
    with pytest.raises(SigningError, match="no time zone"):
        made(policy_file, suite_file, suite_data, trials, AT.replace(tzinfo=None))


# --- what is no preregistration ---------------------------------------------------------------------------------------


def signed(
    path: Path,
    terms: preregistrations.Terms,
    *,
    kind: str = preregistrations.PREDICATE_TYPE,
    subjects: Any = None,
    **change: Any,
) -> Path:
    """A bundle by the trusted key whose content is not what `preregistration` would write."""
    predicate = {**terms.model_dump(mode="json"), **change}
    named = subjects or {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    path.write_bytes(dsse.sign(statement.statement(named, kind, predicate), KEY))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "urn:robustness-gate:preregistration:v2"}, "preregistration:v2"),
        ({"kind": "urn:robustness-gate:report:v1"}, "report:v1"),
        ({"subjects": {"policy": "0" * 64, "suite": "0" * 64}}, "other files than it speaks of"),
        ({"preregistered_at": "2026-13-41T00:00:00Z"}, "preregistered_at"),
        ({"preregistered_at": "yesterday"}, "preregistered_at"),
        ({"note": "x"}, "note"),
        ({"attacks": []}, "attacks"),
        ({"tasks": []}, "tasks"),
        ({"policy": {"id": "x", "version": "1"}}, "sha256"),
    ],
)
def test_what_the_trusted_key_signed_and_is_no_preregistration_is_refused(
    terms: preregistrations.Terms, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = signed(tmp_path / "odd.json", terms, **change)
    with pytest.raises(Unverified, match=says) as caught:
        preregistrations.read_preregistration(path, [KEY.public])
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_subjects_that_lack_a_file_or_name_a_third_are_refused(terms: preregistrations.Terms, tmp_path: Path) -> None:
    both = {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    for subjects in ({"policy": both["policy"]}, {**both, "more": "0" * 64}):
        with pytest.raises(Unverified, match="other files"):
            preregistrations.read_preregistration(signed(tmp_path / "odd.json", terms, subjects=subjects), [KEY.public])
    assert (
        preregistrations.read_preregistration(signed(tmp_path / "even.json", terms, subjects=both), [KEY.public]).terms
        == terms
    )


def test_a_strangers_preregistration_and_a_missing_one_are_refused(
    terms: preregistrations.Terms, tmp_path: Path
) -> None:
    path = written(tmp_path / "preregistration.json", terms, keys.generate())
    with pytest.raises(Unverified, match="not among those given") as caught:
        preregistrations.read_preregistration(path, [KEY.public])
    assert caught.value.where == str(path)
    with pytest.raises(Unverified, match="cannot be read"):
        preregistrations.read_preregistration(tmp_path / "nothing.json", [KEY.public])
