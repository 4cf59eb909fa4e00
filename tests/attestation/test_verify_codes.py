"""The codes of `verify` are a closed set: each has a sentence, its arguments, a row in the manual."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustness_gate.attestation.verify import Check, Confirmed, Fault, Unchecked, records, wording
from robustness_gate.errors import UnknownWord, Unverified
from robustness_gate.system.sentences import arguments

CODES = [*Confirmed, *Unchecked, *Fault]
KINDS = {"Found": Confirmed, "NotChecked": Unchecked, "Failed": Fault}
HEAVY = ("torch", "transformers", "peft", "mlflow")


def calls(root: Path, folder: str = "attestation/verify") -> Iterator[ast.Call]:
    for path in (root / "robustness_gate" / folder).glob("*.py"):
        yield from (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call))


def findings(root: Path) -> Iterator[tuple[str, set[str]]]:
    """(code, names of its arguments) wherever one is made; a code that is chosen there stands for both."""
    for call in calls(root):
        if isinstance(call.func, ast.Name) and call.func.id in KINDS and call.args:
            names = {each.arg or "**" for each in call.keywords}
            for each in ast.walk(call.args[0]):
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.attr.isupper():
                    yield KINDS[call.func.id][each.attr], names


def test_each_code_is_one_and_has_a_sentence_and_each_fault_a_remedy() -> None:
    assert len({str(code) for code in CODES}) == len(CODES)
    assert set(wording.SENTENCES) == set(CODES)
    assert set(wording.REMEDIES) == set(Fault)


def test_a_code_that_is_not_known_raises() -> None:
    check = Check(1, "x", "FAILED", "new", {})  # type: ignore[arg-type]
    for write in (wording.sentence, wording.remedy):
        with pytest.raises(UnknownWord):
            write(check)
    with pytest.raises(UnknownWord):
        records.failed_by(Unverified("x", code="new"))


def test_each_code_is_made_with_the_arguments_of_its_sentence_and_none_is_made_nowhere(root: Path) -> None:
    made = list(findings(root))
    for code, names in made:
        wanted = arguments(wording.SENTENCES[code]) | arguments(wording.REMEDIES.get(code, ""))
        assert wanted <= names or "**" in names, (code, wanted - names)
    of_keys = {Fault.KEY_REVOKED, Fault.KEY_NOT_YET_VALID, Fault.KEY_NO_LONGER_VALID}
    assert {code for code, _ in made} | {Fault(each) for each in refusals(root)} | of_keys == set(CODES)


def refusals(root: Path) -> Iterator[str]:
    """The codes of `Unverified` in what signs and reads; one that is passed on is its origin's.

    One has none: that of `preregistration.compared`, which refuses a run and no file.
    """
    without = 0
    for call in calls(root, "attestation"):
        if isinstance(call.func, ast.Name) and call.func.id == "Unverified":
            found = [each.value for each in call.keywords if each.arg == "code"]
            without += not found
            yield from (code.value for code in found if isinstance(code, ast.Constant))
    assert without == 1


def test_the_manual_lists_them_all(root: Path) -> None:
    manual = (root / "docs" / "signing.md").read_text()
    assert wording.table() in manual, "write what attestation.verify.wording.table() gives into docs/signing.md"


def test_verify_runs_where_nothing_heavy_can_be_imported(root: Path) -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {HEAVY}: raise ImportError('not here: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = ['robustness-gate', *sys.argv[1:]]\n"
        "from robustness_gate.cli import main; main()"
    )
    place = "tests/fixtures/verify"
    given = [
        "--checkpoint",
        f"{place}/model",
        "--trust",
        f"{place}/trust.yaml",
        "--require-suite",
        f"{place}/suite.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", f"{place}/accepted.sigstore.json", *given],
        cwd=root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "VERIFIED: " in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
