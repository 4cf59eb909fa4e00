"""Every code of refusal is provoked, at its line and column, with a remedy; docs/policy.md lists exactly these."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from refusals import CHILD, CRAFT_ALONE, DAY, POLICY, ROOT, ROWS, SUITE, WHOLE_FILES, Row

from robustness_gate.errors import Exit, GateError
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import OWN_CODES, load_suite
from robustness_gate.inputs.yaml import MAX_YAML_BYTES
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy, refuse_untimely
from robustness_gate.policy_language.codes import CODES
from robustness_gate.records.trial import Role

NOBODY = plan.Subject(
    Role.CANDIDATE, CheckpointRef(Path()), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
)  # fmt: skip


def edited(text: str, row: Row) -> str:
    assert text.count(row.old) == 1, (text.count(row.old), row.old)
    return text.replace(row.old, row.new)


def place_of(text: str, at: str) -> str:
    if re.fullmatch(r"\d+:\d+", at):
        return at
    before = text[: text.index(at)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def provoke(row: Row, folder: Path) -> tuple[GateError, Path, str]:
    """The error of a row, the file that was changed, and its text."""
    policy, suite = folder / "policy.yaml", folder / "suite.yaml"
    (folder / "map.csv").write_text("id,cluster\nnobody,paper\n")
    (folder / "ids.txt").write_text("nobody\n")
    (folder / "broken.jsonl").write_text('{"id": "a"}\n')
    (folder / "task.yaml").write_text("doc_to_text: '{{'\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n")
    (folder / "craft.yaml").write_text(CRAFT_ALONE)
    (folder / "other.yaml").write_text("process_docs: y\ndoc_to_text: a\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n")
    if row.kind == "child":
        (folder / "parent.yaml").write_text(POLICY, encoding="utf-8")
        other = CHILD.replace("PARENT", digest(POLICY))
        (folder / "other.yaml").write_text(other, encoding="utf-8")
        changed, text = policy, edited(CHILD, row).replace("PARENT", digest(POLICY)).replace("OTHER", digest(other))
    elif row.kind in ("policy", "day", "fit"):
        changed, text = policy, edited(POLICY, row)
        suite.write_text(SUITE, encoding="utf-8")
    else:
        changed, text = suite, edited(SUITE, row)
        policy.write_text(POLICY, encoding="utf-8")
    changed.write_text(text, encoding="utf-8")
    with pytest.raises(GateError) as caught:
        use(row.kind, policy, suite)
    return caught.value, changed, text


def use(kind: str, policy: Path, suite: Path) -> None:
    if kind in ("policy", "child"):
        load_policy(policy)
    elif kind == "suite":
        load_suite(suite)
    elif kind == "day":
        refuse_untimely(load_policy(policy), date.fromisoformat(DAY))
    else:
        one, other = load_policy(policy), load_suite(suite)
        plan.make(one, other, gather(other), [NOBODY])


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.code}-{i}") for i, row in enumerate(ROWS)])
def test_each_mistake_has_its_code_its_place_and_a_remedy(row: Row, tmp_path: Path) -> None:
    error, changed, text = provoke(row, tmp_path)
    assert error.code == row.code, str(error)
    assert error.exit_code == Exit.USAGE
    assert error.remedy
    if row.at:
        assert error.where == f"{changed}:{place_of(text, row.at)}", str(error)
    else:  # in a file of data, which a suite names
        assert error.where.startswith(str(tmp_path))


def test_the_table_is_long_enough_and_the_sound_files_are_sound(tmp_path: Path) -> None:
    assert len(ROWS) >= 60
    assert Counter(row.kind in ("suite", "plan") for row in ROWS)[True] >= 25
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    (tmp_path / "parent.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "child.yaml").write_text(CHILD.replace("PARENT", digest(POLICY)), encoding="utf-8")
    policy, suite = load_policy(tmp_path / "policy.yaml"), load_suite(tmp_path / "suite.yaml")
    refuse_untimely(policy, date.fromisoformat(DAY))
    assert plan.make(policy, suite, gather(suite), [NOBODY]).trials
    assert load_policy(tmp_path / "child.yaml").record.limits[0].max == 0.35


def test_files_that_cannot_be_read_have_a_code(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    for raw, code in ((None, "unreadable"), (b"#" * (MAX_YAML_BYTES + 1), "too-large"), (b"id: caf\xe9", "not-utf8")):
        if raw is not None:
            path.write_bytes(raw)
        for load in (load_policy, load_suite):
            with pytest.raises(GateError) as caught:
                load(path)
            assert (caught.value.code, caught.value.where, bool(caught.value.remedy)) == (code, str(path), True)


# --- no refusal without a code, no code without a refusal -------------------------------------------------------------

ROOMS = (
    "inputs/yaml.py",
    "inputs/validation.py",
    "inputs/items.py",
    "inputs/datasets.py",
    "inputs/rows.py",
    "inputs/tables.py",
    "inputs/unpinned.py",
    "inputs/division.py",
    "inputs/same_question.py",
    "planning/plan.py",
    "planning/foreseen.py",
    "planning/compatibility.py",
    "planning/suite_data.py",
    "planning/sources.py",
    "planning/task_data.py",
    "planning/clusters.py",
    "planning/corpora.py",
    "planning/pins.py",
    "planning/leaks.py",
    "inputs/harness/*.py",
    "tasks/lm_eval.py",
    "attacks/__init__.py",
    "policy_language/*.py",
)
ABOUT_THE_COMMAND = {
    "--only",
    "--original names the candidate",
    "is not a control's name",
    "is given twice",
    "every field is pinned",
    "not installed",
}


def raised() -> list[tuple[str, ast.Call]]:
    found = []
    for pattern in ROOMS:
        for path in sorted((ROOT / "robustness_gate").glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
                if named in {"FileError", "PlanError", "UsageError"}:
                    found.append((f"{path.name}:{node.lineno}", node))
    return found


def test_every_refusal_in_these_rooms_has_a_code_and_a_remedy() -> None:
    calls = raised()
    assert len(calls) > 60
    for where, call in calls:
        given = {keyword.arg for keyword in call.keywords}
        if not any(word in ast.unparse(call) for word in ABOUT_THE_COMMAND):
            assert "code" in given, f"{where}: {ast.unparse(call)[:100]}"
            if "language" in where or "plan" in where:
                assert "remedy" in given, where


def test_every_code_is_known_and_provoked() -> None:
    constants = {
        keyword.value.value
        for _, call in raised()
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    assert constants | set(OWN_CODES) <= set(CODES)
    provoked = {row.code for row in ROWS} | set(WHOLE_FILES)
    assert provoked == set(CODES)


# --- the list in the documentation ------------------------------------------------------------------------------------

BEGIN, END = "<!-- codes: begin -->\n", "<!-- codes: end -->\n"


def short(text: str) -> str:
    """On one line, at most 60 characters, a tab to be seen."""
    line = " ".join(re.sub(r"([0-9a-f]{4})[0-9a-f]{36,}", r"\1...", text.replace("\t", "<tab>")).split())
    return f"`{line[:57]}...`" if len(line) > 60 else f"`{line}`"


def listed() -> str:
    """The table of codes as docs/policy.md must have it: the first row of each code is its example."""
    example = {code: words for code, words in WHOLE_FILES.items()}
    for row in reversed(ROWS):
        old, new = (short(text) for text in (row.old, row.new))
        example[row.code] = f"{old} becomes {new}" if row.new else f"{old} is taken out"
    lines = ["| code | what it means | for example |", "|---|---|---|"]
    lines += [
        f"| `{code}` | {meaning} | {example[code].replace('|', chr(92) + '|')} |" for code, meaning in CODES.items()
    ]
    return "\n".join(lines) + "\n"


def test_the_documentation_lists_exactly_these_codes() -> None:
    """When this fails on purpose: python tests/policy_language/test_refusals.py, and say so."""
    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == listed()


if __name__ == "__main__":
    page = ROOT / "docs" / "policy.md"
    old = page.read_text(encoding="utf-8")
    page.write_text(old[: old.index(BEGIN) + len(BEGIN)] + listed() + old[old.index(END) :], encoding="utf-8")
