"""A bare name means a shipped file, a path a file of the user's, and what could be either is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustness_gate.cli import app
from robustness_gate.errors import Exit, UsageError
from robustness_gate.inputs.shipped import BUNDLE, CASES, KEY, POLICY, ROOT, SUITE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_bare_name_is_the_shipped_file_of_its_kind() -> None:
    found = [POLICY.find("organism"), SUITE.find("organism-smoke"), CASES.find("organism"), BUNDLE.find("pass")]
    assert [path.relative_to(ROOT).as_posix() for path in (*found, KEY.find("examples"))] == [
        "policies/organism.yaml", "suites/organism-smoke.yaml", "policies/organism.cases.yaml",
        "reports/examples/pass.sigstore.json", "reports/examples/examples.pub",
    ]  # fmt: skip
    assert all(path.is_file() for path in found)
    assert "organism.cases" not in POLICY.names()


@pytest.mark.parametrize(
    "given", ["organism.yaml", "./organism", "gate/organism", "/organism", "organism.yml", ".", ""]
)
def test_what_has_a_slash_or_a_dot_is_a_path_whatever_is_shipped(given: str) -> None:
    assert POLICY.find(given) == Path(given)


def test_a_file_here_whose_name_nothing_shipped_has_is_that_file() -> None:
    Path("mine").write_text("")
    assert POLICY.find("mine") == Path("mine")


def test_a_name_that_is_both_is_refused_and_both_ways_out_are_named() -> None:
    Path("organism").write_text("")
    with pytest.raises(
        UsageError, match=r"'organism' is a shipped policy, and there is a 'organism' in this folder\. "
    ) as told:
        POLICY.find("organism")
    assert "./organism" in told.value.remedy
    assert POLICY.find("./organism").is_file()


def test_an_unknown_name_is_one_sentence_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(UsageError) as told:
        POLICY.find("organsim")
    assert str(told.value) == (
        "there is neither a file 'organsim' here nor a shipped policy of that name. Did you mean 'organism'? Shipped: "
        f"{', '.join(POLICY.names())}."
    )
    assert told.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        "policy check NONE", "policy check organism --suite NONE", "policy show NONE", "policy diff NONE organism",
        "policy diff organism NONE", "policy lint NONE", "policy lint organism --suite NONE", "policy test NONE x.yaml",
        "policy test organism NONE", "policy pin NONE --suite organism-smoke", "policy pin organism --suite NONE",
        "policy preregister --policy NONE --suite organism-smoke", "judge . --policy NONE", "verify NONE",
        "verify pass --policy NONE", "verify pass --require-suite NONE", "verify pass --public NONE",
        "plan organism:rmu --policy NONE --suite custom", "plan organism:rmu --policy custom --suite NONE",
        "run organism:rmu --policy NONE --suite custom", "doctor organism:rmu --suite NONE",
        "self-test --out x --policy NONE", "self-test --out x --policy organism --suite NONE",
        "audit organism:rmu --bundle pass.json --suite NONE",
    ],
)  # fmt: skip
def test_every_verb_that_takes_such_a_file_takes_a_name(arguments: str) -> None:
    done = CliRunner().invoke(app, arguments.split())
    assert isinstance(done.exception, UsageError), done.output
    assert "nor a shipped" in done.exception.message
