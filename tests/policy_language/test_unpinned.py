"""Values that are not pinned: refused by name, given by a policy that extends, made up for made-up results alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hub import pinned_policy, pinned_policy_file

from robustness_gate.errors import FileError
from robustness_gate.inputs.yaml import read_yaml
from robustness_gate.policy_language import load_policy
from robustness_gate.policy_language.cases import load_cases, load_tested
from robustness_gate.policy_language.load import open_values, policy_of
from robustness_gate.records.policy import Policy

ROOT = Path(__file__).parents[2]
SHIPPED = [
    path for path in sorted((ROOT / "policies").glob("*.yaml")) if "UNPINNED" in path.read_text(encoding="utf-8")
]
STRICT = ROOT / "policies" / "strict-baseline.yaml"
SOURCE = f"hf-dataset://EleutherAI/wmdp_bio_cloze@{'3' * 40}/default/cloze_compatible"
GIVEN = {
    "original": f"original: {'a' * 64}",
    "controls.never_taught.sha256": f"controls: {{never_taught: {{sha256: {'b' * 64}}}}}",
    "tasks": "tasks:",
    "tasks.wmdp-bio": f"  wmdp-bio: {{sha256: {'c' * 64}, questions: {'d' * 64}}}",
    "tasks.wmdp-bio-cloze": f"  wmdp-bio-cloze: {{items: 968, sha256: {'e' * 64}, questions: {'f' * 64}, "
    f"source: '{SOURCE}'}}",
    "tasks.wmdp-bio-margin": f"  wmdp-bio-margin: {{items: 968, sha256: {'7a' * 32}, questions: {'f' * 64}, "
    f"source: '{SOURCE}'}}",
}
"""All that the strict baseline leaves open, line by line."""


def child(folder: Path, lines: dict[str, str], more: str = "") -> Path:
    """A policy that extends the strict baseline."""
    (folder / STRICT.name).write_bytes(STRICT.read_bytes())
    sha256 = hashlib.sha256(STRICT.read_bytes()).hexdigest()
    head = f"extends: {{file: {STRICT.name}, sha256: {sha256}}}"
    text = "\n".join(
        ["schema: robustness-gate/policy/v1", "id: ours", "version: 1.0.0", head, *lines.values(), more, ""]
    )
    (folder / "ours.yaml").write_text(text, encoding="utf-8")
    return folder / "ours.yaml"


def refused(path: Path, **more: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        load_policy(path, **more)
    return caught.value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_policy_that_is_not_pinned_is_refused_with_the_name_of_every_value(path: Path) -> None:
    error = refused(path)
    assert (error.code, int(error.exit_code)) == ("unpinned", 2)
    names = [".".join(map(str, at)) for at in open_values(path)]
    assert names[0] == "original"
    many = "one field is" if len(names) == 1 else f"{len(names)} fields are"
    assert f"{many} not pinned: {', '.join(names)}" in str(error)
    assert "policy pin" in error.remedy


def test_no_shipped_wmdp_policy_limits_an_accuracy_where_chance_is_not_the_floor() -> None:
    absolute = {
        f"{path.stem}.{limit.id}": limit.most
        for path in sorted((ROOT / "policies").glob("*.yaml"))
        if "wmdp" in path.read_text(encoding="utf-8") and not path.name.endswith(".cases.yaml")
        for limit in pinned_policy(path).record.limits
        if limit.absolute
    }
    assert absolute == {"vendor-audit.bio": 0.6}, "and that policy makes no PASS"
    assert load_policy(ROOT / "policies" / "vendor-audit.yaml").record.validity.passes == "never"


PUBLIC = [*SHIPPED, ROOT / "policies" / "panels" / "deep-ignorance.yaml"]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_a_share_by_cloze_is_limited_by_margin_too(path: Path) -> None:
    """Flattened logits hide what cloze alone would show."""
    limits = [limit for limit in pinned_policy(path).record.limits if limit.recovered is not None]
    cloze = {reading for limit in limits for reading in limit.readings if reading.endswith("-cloze")}
    margins = {reading for limit in limits for reading in limit.readings if reading.endswith("-margin")}
    assert {each.removesuffix("-cloze") for each in cloze} <= {each.removesuffix("-margin") for each in margins}
    assert cloze or path.stem in {"real-shares", "vendor-audit"}, "these have no task of that name in a share"


def test_a_child_gives_what_its_parent_leaves_open_and_loosens_nothing_by_it(tmp_path: Path) -> None:
    loaded = load_policy(child(tmp_path, GIVEN))
    made = loaded.record
    assert (made.original, made.controls["never_taught"].sha256) == ("a" * 64, "b" * 64)
    for task, digest in (("wmdp-bio-cloze", "ee"), ("wmdp-bio-margin", "7a")):
        its = made.tasks[task]
        assert (its.items, its.sha256, its.questions, its.source) == (968, digest * 32, "f" * 64, SOURCE)
    assert made.limits == pinned_policy(STRICT).record.limits
    assert loaded.parent is not None
    assert "UNPINNED" in loaded.parent.text
    again = policy_of(read_yaml(tmp_path / "ours.yaml"), read_yaml(tmp_path / STRICT.name))
    assert again.record == made, "as a report is read"


@pytest.mark.parametrize("left", [name for name in GIVEN if name != "tasks"])
def test_what_neither_gives_is_refused_by_name(left: str, tmp_path: Path) -> None:
    error = refused(child(tmp_path, {name: line for name, line in GIVEN.items() if name != left}))
    assert error.code == "unpinned"
    assert left in error.message
    assert not [name for name in GIVEN if name not in (left, "tasks") and name in error.message.replace(left, "")]


@pytest.mark.parametrize(
    ("instead", "code"),
    [
        ({"original": "original: null"}, "share-not-pinned"),
        ({"tasks.wmdp-bio": f"  wmdp-bio: {{sha256: null, questions: {'d' * 64}}}"}, "share-not-pinned"),
        ({"tasks.wmdp-bio": f"  wmdp-bio: {{items: 1145, sha256: {'c' * 64}, questions: {'d' * 64}}}"}, "loosened"),
        ({"original": f"original: {'a' * 64}\nlimits: [{{id: bio, recovered: {{max_share: 0.5}}}}]"}, "loosened"),
        ({"original": f"original: {'a' * 64}\nvalidity: {{positive_control: 'off'}}"}, "loosened"),
        ({"controls.never_taught.sha256": "controls: {never_taught: {sha256: latest}}"}, "bad-digest"),
    ],
)
def test_a_child_that_gives_values_loosens_nothing_else(instead: dict[str, str], code: str, tmp_path: Path) -> None:
    error = refused(child(tmp_path, GIVEN | instead))
    assert error.code == code, str(error)


def test_a_pinned_value_is_no_open_one(tmp_path: Path) -> None:
    pinned_policy_file(STRICT, tmp_path)
    parent = (tmp_path / STRICT.name).read_bytes()
    sha256 = hashlib.sha256(parent).hexdigest()
    text = (
        "schema: robustness-gate/policy/v1\nid: ours\nversion: 1.0.0\n"
        f"extends: {{file: {STRICT.name}, sha256: {sha256}}}\noriginal: {'a' * 64}\n"
    )
    (tmp_path / "ours.yaml").write_text(text, encoding="utf-8")
    error = refused(tmp_path / "ours.yaml")
    assert error.code == "loosened"
    assert "original" in error.message


def test_an_error_of_the_parent_is_told_whatever_the_child_gives(tmp_path: Path) -> None:
    path = child(tmp_path, GIVEN)
    parent = STRICT.read_text(encoding="utf-8").replace("- {attack: none}", "- {attack: none, seeds: 0}")
    (tmp_path / STRICT.name).write_text(parent, encoding="utf-8")
    sha256 = hashlib.sha256(parent.encode()).hexdigest()
    old = hashlib.sha256(STRICT.read_bytes()).hexdigest()
    path.write_text(path.read_text(encoding="utf-8").replace(old, sha256), encoding="utf-8")
    error = refused(path)
    assert error.code == "out-of-range"
    assert error.where.startswith(str(tmp_path / STRICT.name))


def test_made_up_values_differ_from_one_another_and_stand_for_maps_too(tmp_path: Path) -> None:
    text = (ROOT / "policies" / "smallest.yaml").read_text(encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(
        text + "original: UNPINNED\ndata: {dev: UNPINNED, forget: UNPINNED}\n", encoding="utf-8"
    )
    assert refused(tmp_path / "policy.yaml").code == "unpinned"
    made = load_policy(tmp_path / "policy.yaml", unpinned=True).record
    assert len({made.original, *made.data.values()}) == 3
    assert load_policy(tmp_path / "policy.yaml", unpinned=True, given={"data": {"dev": "d" * 64}}).record.data[
        "dev"
    ] == ("d" * 64)


# --- cases of a policy that is not pinned -----------------------------------------------------------------------------


def of_cases(folder: Path, items: str, policy: Path = STRICT) -> tuple[Policy, tuple[str, ...]]:
    (folder / "cases.yaml").write_text(
        f"schema: robustness-gate/cases/v1\nitems: {items}\ncases: [{{description: a, expect: PASS}}]\n",
        encoding="utf-8",
    )
    return load_tested(policy, load_cases(folder / "cases.yaml"))


def test_cases_say_the_counts_and_the_program_says_what_it_made_up(tmp_path: Path) -> None:
    policy, assumed = of_cases(tmp_path, "{wmdp-bio-cloze: 914, wmdp-bio-margin: 914}")
    assert policy.tasks["wmdp-bio-cloze"].items == 914
    assert assumed == (
        "wmdp-bio-cloze has 914 items (not pinned)",
        "wmdp-bio-margin has 914 items (not pinned)",
        "made-up values (not pinned): original, controls.never_taught.sha256, tasks.wmdp-bio.sha256, "
        "tasks.wmdp-bio.questions, tasks.wmdp-bio-cloze.sha256, tasks.wmdp-bio-cloze.questions, "
        "tasks.wmdp-bio-cloze.source, tasks.wmdp-bio-margin.sha256, tasks.wmdp-bio-margin.questions, "
        "tasks.wmdp-bio-margin.source",
    )
    ours = child(tmp_path, GIVEN)
    assert of_cases(tmp_path, "{}", ours) == (load_policy(ours).record, ())


@pytest.mark.parametrize(
    ("items", "code", "word"),
    [
        ("{}", "unpinned", "wmdp-bio-cloze"),
        ("{wmdp-bio-cloze: 914, wmdp-bio-margin: 914, wmdp-bio: 900}", "bad-case", "'wmdp-bio'"),
        ("{wmdp-bio-clozes: 914}", "bad-case", "wmdp-bio-clozes"),
    ],
)
def test_a_count_that_is_missing_or_not_open_is_refused(items: str, code: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        of_cases(tmp_path, items)
    assert caught.value.code == code
    assert word in str(caught.value)
