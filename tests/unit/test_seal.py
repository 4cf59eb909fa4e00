"""A seal says what was fixed, and notices everything that was changed since."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import attest, seal
from robustness_gate import plan as plans
from robustness_gate.checkpoint import FileEntry, Manifest, Place
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.files import load_suite
from robustness_gate.language import load_policy
from robustness_gate.nouns import Trial

AT = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
KEY = attest.generate()


def trials_of(policy_file: Path, suite_file: Path, materials: Any, subject: str = "0") -> tuple[Trial, ...]:
    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256=subject * 64),))
    somebody = plans.Subject("candidate", Place(Path()), manifest)
    made = plans.make(load_policy(policy_file), load_suite(suite_file), materials, [somebody]).trials
    return tuple(trial for trial in made if trial.role == "candidate")


@pytest.fixture(scope="module")
def trials(policy_file: Path, suite_file: Path, materials: Any) -> tuple[Trial, ...]:
    return trials_of(policy_file, suite_file, materials)


@pytest.fixture(scope="module")
def terms(policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]) -> seal.Terms:
    return made(policy_file, suite_file, materials, trials)


def made(policy_file: Path, suite_file: Path, materials: Any, trials: Any, at: datetime = AT) -> seal.Terms:
    policy, suite = load_policy(policy_file), load_suite(suite_file)
    return seal.make(policy, suite, materials.refs, materials.data_digests, trials, at)


def written(path: Path, terms: seal.Terms, key: attest.PrivateKey = KEY) -> Path:
    path.write_bytes(seal.seal(terms, key))
    return path


def test_a_seal_comes_back_as_it_was_made_with_whose_it_is(terms: seal.Terms, tmp_path: Path) -> None:
    path = written(tmp_path / "seal.json", terms)
    found = seal.read_seal(path, [attest.generate().public, KEY.public])
    assert found.terms == terms
    assert found.key == KEY.public
    payload = attest.open_bundle(path.read_bytes(), [KEY.public]).payload
    assert found.sha256 == hashlib.sha256(payload).hexdigest()
    assert json.loads(payload)["predicateType"] == "urn:robustness-gate:seal:v1"


def test_it_names_the_two_files_by_the_digest_of_their_bytes(
    terms: seal.Terms, policy_file: Path, suite_file: Path, tmp_path: Path
) -> None:
    digests = {
        "policy": hashlib.sha256(policy_file.read_bytes()).hexdigest(),
        "suite": hashlib.sha256(suite_file.read_bytes()).hexdigest(),
    }
    payload = attest.open_bundle(seal.seal(terms, KEY), [KEY.public]).payload
    assert attest.read_statement(payload, seal.PREDICATE_TYPE).subjects == digests
    assert terms.policy.sha256 == digests["policy"]
    assert (terms.policy.id, terms.suite.id) == (load_policy(policy_file).noun.id, load_suite(suite_file).noun.id)


def test_it_names_questions_data_and_attacks(terms: seal.Terms, materials: Any, trials: tuple[Trial, ...]) -> None:
    assert {task.name: task for task in terms.tasks} == materials.refs
    assert terms.data == materials.data_digests
    assert {each.sha256 for each in terms.attacks} == {seal.attack_digest(trial) for trial in trials}
    assert sum(each.seeds for each in terms.attacks) == len(trials)


def test_the_same_terms_give_the_same_bytes_whatever_the_order_of_trials(
    terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    turned = made(policy_file, suite_file, materials, trials[::-1])
    assert seal.seal(turned, KEY) == seal.seal(terms, KEY)


def test_what_is_run_beside_the_candidate_is_not_sealed(
    terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    """Whether an original was at hand when it was sealed must not decide whether the seal holds."""
    beside = [trials[0].model_copy(update={"role": role, "attack_version": 7}) for role in ("original", "control:x")]
    assert made(policy_file, suite_file, materials, [*trials, *beside]) == terms


def test_it_holds_for_any_checkpoint(terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any) -> None:
    other = trials_of(policy_file, suite_file, materials, subject="7")
    assert made(policy_file, suite_file, materials, other) == terms


def test_the_same_files_are_the_sealed_ones_at_another_time_and_of_another_release(
    terms: seal.Terms, policy_file: Path, suite_file: Path
) -> None:
    later = terms.model_copy(update={"sealed_at": "2027-01-01T00:00:00Z", "made_by": "robustness-gate 9.9.9"})
    assert seal.differences(terms, later) == ()
    assert seal.file_differences(terms, load_policy(policy_file), load_suite(suite_file)) == ()


@pytest.mark.parametrize("which", ["policy", "suite"])
def test_one_byte_more_in_a_file_is_another_file(
    terms: seal.Terms, policy_file: Path, suite_file: Path, tmp_path: Path, which: str
) -> None:
    paths = {"policy": policy_file, "suite": suite_file}
    changed = tmp_path / paths[which].name
    changed.write_bytes(paths[which].read_bytes() + b"#\n")
    paths[which] = changed
    (told,) = seal.file_differences(terms, load_policy(paths["policy"]), load_suite(paths["suite"]))
    assert told.startswith(f"the {which} is not the sealed one")
    assert hashlib.sha256(changed.read_bytes()).hexdigest()[:12] in told


def test_changed_questions_are_told_by_name(
    terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    forget = materials.exams["forget"]
    first = dataclasses.replace(forget.items[0], answer=(forget.items[0].answer + 1) % 4)
    exam = dataclasses.replace(forget, items=(first, *forget.items[1:]))
    wrong_key = dataclasses.replace(materials, exams={**materials.exams, "forget": exam})
    assert seal.differences(terms, made(policy_file, suite_file, wrong_key, trials)) == (
        "the questions of 'forget': not as sealed",
    )
    turned = dataclasses.replace(forget, items=forget.items[::-1])
    order = dataclasses.replace(materials, exams={**materials.exams, "forget": turned})
    assert seal.differences(terms, made(policy_file, suite_file, order, trials)) == (
        "the questions of 'forget': not as sealed",
    )


def test_changed_data_of_an_attacker_are_told_by_name(
    terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    fewer = dataclasses.replace(materials.corpora["retain"], items=materials.corpora["retain"].items[1:])
    weaker = dataclasses.replace(materials, corpora={**materials.corpora, "retain": fewer})
    assert seal.differences(terms, made(policy_file, suite_file, weaker, trials)) == (
        "the data 'retain': not as sealed",
    )
    corpora = {name: corpus for name, corpus in materials.corpora.items() if name != "retain"}
    without = dataclasses.replace(materials, corpora={**corpora, "more": materials.corpora["retain"]})
    assert seal.differences(terms, made(policy_file, suite_file, without, trials)) == (
        "the data 'more': here, and not sealed",
        "the data 'retain': sealed, and not here",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"attack_version": 99},
        {"marks": (1,)},
        {"floors": ()},
        {"dtype": "bfloat16"},
        {"family": "other"},
        {"config": {"source": "forget", "method": "full", "batch": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_weakened_attack_is_told_by_name(
    terms: seal.Terms,
    policy_file: Path,
    suite_file: Path,
    materials: Any,
    trials: tuple[Trial, ...],
    change: dict[str, Any],
) -> None:
    at = next(n for n, trial in enumerate(trials) if trial.config.get("method") == "full")
    assert trials[at].floors, "a floor that can be taken away is needed here"
    weaker = [*trials[:at], trials[at].model_copy(update=change), *trials[at + 1 :]]
    assert seal.differences(terms, made(policy_file, suite_file, materials, weaker)) == (
        "the attack relearn (forget, full): not as sealed",
    )


def test_fewer_seeds_and_left_out_attacks_are_told(
    terms: seal.Terms, policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    more = [*trials, trials[0].model_copy(update={"seed_index": 1, "seed": 1})]
    assert seal.differences(made(policy_file, suite_file, materials, more), terms) == (
        "the attack none: not as sealed",
    )
    fewer = made(policy_file, suite_file, materials, trials[:-1])
    (told,) = seal.differences(terms, fewer)
    assert told.endswith("sealed, and not here")


def test_whom_and_by_which_seed_does_not_change_what_an_attack_is(trials: tuple[Trial, ...]) -> None:
    """A verifier computes this from a report's trials: it must hold for every candidate."""
    other = {"subject": "7" * 64, "role": "original", "reference": "8" * 64, "seed_index": 3, "seed": 5, "data": {}}
    for trial in trials:
        assert seal.attack_digest(trial.model_copy(update=other)) == seal.attack_digest(trial)
    assert len({seal.attack_digest(trial) for trial in trials}) == len(trials)


def test_the_time_is_written_in_utc_and_needs_a_zone(
    policy_file: Path, suite_file: Path, materials: Any, trials: tuple[Trial, ...]
) -> None:
    east = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert made(policy_file, suite_file, materials, trials, east).sealed_at == "2026-11-21T14:00:00Z"
    with pytest.raises(SigningError, match="no time zone"):
        made(policy_file, suite_file, materials, trials, AT.replace(tzinfo=None))


# --- what is no seal --------------------------------------------------------------------------------------------------


def signed(
    path: Path, terms: seal.Terms, *, kind: str = seal.PREDICATE_TYPE, subjects: Any = None, **change: Any
) -> Path:
    """A bundle by the trusted key whose content is not what `seal` would write."""
    predicate = {**terms.model_dump(mode="json"), **change}
    named = subjects or {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    path.write_bytes(attest.sign(attest.statement(named, kind, predicate), KEY))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "urn:robustness-gate:seal:v2"}, "seal:v2"),
        ({"kind": "urn:robustness-gate:report:v1"}, "report:v1"),
        ({"subjects": {"policy": "0" * 64, "suite": "0" * 64}}, "other files than it speaks of"),
        ({"sealed_at": "2026-13-41T00:00:00Z"}, "sealed_at"),
        ({"sealed_at": "yesterday"}, "sealed_at"),
        ({"note": "x"}, "note"),
        ({"attacks": []}, "attacks"),
        ({"tasks": []}, "tasks"),
        ({"policy": {"id": "x", "version": "1"}}, "sha256"),
    ],
)
def test_what_the_trusted_key_signed_and_is_no_seal_is_refused(
    terms: seal.Terms, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = signed(tmp_path / "odd.json", terms, **change)
    with pytest.raises(Unverified, match=says) as caught:
        seal.read_seal(path, [KEY.public])
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_subjects_that_lack_a_file_or_name_a_third_are_refused(terms: seal.Terms, tmp_path: Path) -> None:
    both = {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    for subjects in ({"policy": both["policy"]}, {**both, "more": "0" * 64}):
        with pytest.raises(Unverified, match="other files"):
            seal.read_seal(signed(tmp_path / "odd.json", terms, subjects=subjects), [KEY.public])
    assert seal.read_seal(signed(tmp_path / "even.json", terms, subjects=both), [KEY.public]).terms == terms


def test_a_strangers_seal_and_a_missing_one_are_refused(terms: seal.Terms, tmp_path: Path) -> None:
    path = written(tmp_path / "seal.json", terms, attest.generate())
    with pytest.raises(Unverified, match="not among those given") as caught:
        seal.read_seal(path, [KEY.public])
    assert caught.value.where == str(path)
    with pytest.raises(Unverified, match="cannot be read"):
        seal.read_seal(tmp_path / "nothing.json", [KEY.public])
