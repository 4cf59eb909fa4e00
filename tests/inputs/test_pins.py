"""Pins of a suite's data sets, against a hub on this machine: filled in, looked up again, and refused while missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import gate
from hub import Hub, serving

from robustness_gate.errors import FileError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.shipped import SUITE
from robustness_gate.inputs.unpinned import fields
from robustness_gate.inputs.validation import load_suite
from robustness_gate.inputs.yaml import read_yaml
from robustness_gate.planning.suite_data import gather

COMMIT, OLD, NONE = "a1" * 20, "b2" * 20, "c3" * 20
SUITE_TEXT = """\
# What this is about stays: UNPINNED fields are below.
schema: robustness-gate/suite/v1
id: stones
version: 1.0.0
description: Stones.
hazard: stones
checked:
  lab/stones@UNPINNED: UNPINNED   # the day
tasks:
  stones: {items: [hf-dataset://lab/stones@UNPINNED/rare/test, hf-dataset://lab/stones@UNPINNED/common/test], count: UNPINNED, where: {colour: red}}   # two configs
  other:
    count: UNPINNED
    items: hf-dataset://lab/stones@UNPINNED/rare/test
    columns: {question: prompt, choices: [right, wrong], answer: right}
corpora:
  texts: {texts: hf-dataset://lab/texts@UNPINNED/all/train, count: UNPINNED, columns: {text: body}}
attacks:
  - attack: none
"""  # noqa: E501 - one line with two fields


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def stones(config: str, count: int) -> bytes:
    return lines(
        [
            {
                "question": f"Which {config} stone is {n}?", "choices": ["a", f"b{n}"], "answer": n % 2,
                "colour": "red" if n % 3 else "blue", "prompt": f"Name {n}.", "right": f"r{n}",
                "wrong": [f"w{n}", f"v{n}"],
            }
            for n in range(count)
        ]
    )  # fmt: skip


HELD = {
    "datasets/lab/stones": {
        COMMIT: {"rare/test.jsonl": stones("rare", 30), "common/test.jsonl": stones("common", 12)},
        OLD: {"rare/test.jsonl": stones("rare", 3)},
    },
    "datasets/lab/texts": {COMMIT: {"all/train.jsonl": lines([{"body": f"Text {n}."} for n in range(5)])}},
}
MAIN = {"datasets/lab/stones": COMMIT, "datasets/lab/texts": COMMIT}


@pytest.fixture
def hub_here(tmp_path, monkeypatch):
    """The client of this process asks a hub on this machine, and keeps what it gets apart."""
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    @contextmanager
    def here(held: Mapping[str, Any] = HELD, **more: Mapping[str, str]) -> Iterator[Hub]:
        with serving(held, main=MAIN, **more) as hub:
            monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
            monkeypatch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            )
            yield hub

    return here


def suite(folder: Path, text: str = SUITE_TEXT) -> Path:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_with_fields_that_are_not_pinned_is_refused_by_every_name(tmp_path):
    with pytest.raises(FileError) as caught:
        load_suite(suite(tmp_path))
    error = caught.value
    assert error.code == "unpinned"
    assert error.where == f"{tmp_path / 'suite.yaml'}:8:3"
    assert error.message.startswith("8 fields are not pinned: checked.lab/stones@UNPINNED, tasks.stones.items.0, ")
    assert "tasks.other.count" in error.message
    assert "corpora.texts.count" in error.message
    assert "suites pin" in error.remedy


@pytest.mark.parametrize("name", ["wmdp-smoke", "wmdp-standard", "wmdp-full", "wmdp-api-only"])
def test_a_shipped_suite_that_is_not_pinned_judges_nothing(name):
    policy = {"wmdp-smoke": "wmdp-open-weights", "wmdp-full": "wmdp-standard"}.get(name, name)
    for command in (
        ["policy", "check", policy],
        ["policy", "pin", policy],
        ["plan", "organism:rmu", "--policy", policy],
    ):
        done = gate(*command, "--suite", name)
        assert done.returncode == 2, command
        assert "error[unpinned]" in done.stderr
        assert "tasks.wmdp-bio-cloze.items" in done.stderr


def test_pinning_fills_in_every_field_and_nothing_else(tmp_path, hub_here):
    path, out = suite(tmp_path), tmp_path / "pinned.yaml"
    with hub_here():
        done = gate("suites", "pin", str(path), "--out", str(out))
        assert done.returncode == 0, done.stdout + done.stderr
        data = gather(load_suite(out))
    made, day = read_yaml(out), str(datetime.now(UTC).date())
    assert "UNPINNED" not in made.text.split("\n", 1)[1]
    assert made.text.split("\n", 1)[0] == "# What this is about stays: UNPINNED fields are below."
    assert "# two configs" in made.text
    assert made.data["checked"] == {f"lab/stones@{COMMIT}": day}
    assert made.data["tasks"]["stones"]["count"] == 20 + 8, "red ones of both configs"
    assert made.data["tasks"]["other"]["count"] == 30
    assert made.data["corpora"]["texts"]["count"] == 5
    assert len(data.tasks["stones"].items) == 28
    assert data.tasks["other"].items[7].question.choices == ("r7", "w7", "v7")
    assert data.tasks["other"].items[7].answer == 0
    assert data.corpora["texts"].texts[4] == "Text 4."
    assert path.read_text() == SUITE_TEXT, "the suite itself is unchanged"
    again = gate("suites", "pin", str(out))
    assert (again.returncode, "every field is pinned" in (again.stdout + again.stderr)) == (2, True)


def test_what_the_hub_cannot_know_is_not_pinned(tmp_path, hub_here):
    with hub_here():
        done = gate("suites", "pin", str(suite(tmp_path, SUITE_TEXT.replace("hazard: stones", "hazard: UNPINNED"))))
        assert done.returncode == 2
        assert "hazard: the hub has no value for this field" in (done.stdout + done.stderr)
        gone = gate("suites", "pin", str(suite(tmp_path, SUITE_TEXT.replace("lab/texts", "lab/gone"))))
    assert gone.returncode == 2
    assert "RepositoryNotFoundError" in (gone.stdout + gone.stderr)
    assert not list(tmp_path.glob("pinned*"))


CHECKED = SUITE_TEXT.replace("common/test", "rare/train").replace("@UNPINNED: UNPINNED", f"@{OLD}: 2026-05-04")


def test_every_commit_is_looked_up_and_one_that_is_gone_is_named(tmp_path, hub_here):
    text = CHECKED.replace("lab/stones@UNPINNED", f"lab/stones@{OLD}")
    with hub_here() as hub:
        good = gate("suites", "check-pins", str(suite(tmp_path, text)))
        assert good.returncode == 0, good.stdout + good.stderr
        assert f"ok       lab/stones@{OLD} (last checked 2026-05-04; stones)" in (good.stdout + good.stderr)
        assert "unpinned" in (good.stdout + good.stderr)
        assert "tasks.stones.count" in (good.stdout + good.stderr)
        assert not hub.fetched(), "no data are downloaded"
        bad = gate(
            "suites", "check-pins", str(suite(tmp_path, text.replace("lab/texts@UNPINNED", f"lab/texts@{NONE}")))
        )
    assert bad.returncode == 2
    assert f"NOT THERE lab/texts@{NONE} (never checked before; stones)" in (bad.stdout + bad.stderr)
    assert "RevisionNotFoundError" in (bad.stdout + bad.stderr)
    assert f"ok       lab/stones@{OLD}" in (bad.stdout + bad.stderr), "one that is gone hides no other"


def test_a_hub_out_of_reach_confirms_nothing(tmp_path, hub_here):
    with hub_here() as hub:
        pass
    assert hub.endpoint
    text = CHECKED.replace("lab/stones@UNPINNED", f"lab/stones@{OLD}")
    done = gate("suites", "check-pins", str(suite(tmp_path, text)), "--json")
    assert done.returncode == 2
    (commit,) = json.loads(done.stdout)["commits"]
    assert commit["fault"]


def test_every_shipped_commit_is_looked_up(hub_here):
    """The hub of this test has none of them, so each is named as missing; a commit that is left out would not be."""
    paths = [SUITE.named(name) for name in SUITE.names()]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    with hub_here():
        done = gate("suites", "check-pins")
    assert done.returncode == 2
    named = set(re.findall(r"hf-dataset://([\w.-]+/[\w.-]+@[0-9a-f]{40})", texts))
    assert named
    assert {
        line.split()[2] for line in (done.stdout + done.stderr).splitlines() if line.startswith("NOT THERE")
    } == named


@pytest.mark.parametrize("name", SUITE.names())
def test_every_shipped_commit_says_when_it_was_seen(name):
    """No commit stands there without a word on whether the hub was asked for it."""
    text = read_yaml(SUITE.named(name)).text
    named = set(re.findall(r"hf-dataset://([\w.-]+/[\w.-]+@(?:[0-9a-f]{40}|UNPINNED))", text))
    assert named == set(yaml.safe_load(text).get("checked", {}))


def test_a_day_for_a_commit_that_no_source_has_is_refused(tmp_path):
    text = CHECKED.replace("@UNPINNED", f"@{COMMIT}").replace("UNPINNED", "3")
    with pytest.raises(FileError, match="no source of this suite is of that commit"):
        load_suite(suite(tmp_path, text))


def test_a_gated_data_set_is_refused_with_the_page_of_its_terms_and_then_read_with_a_token(
    tmp_path, hub_here, monkeypatch
):
    place = f"hf-dataset://lab/stones@{COMMIT}/rare/test"
    with hub_here(gated={"datasets/lab/stones": "hf_secret"}) as hub:
        for token in (None, "hf_other"):
            if token:
                monkeypatch.setenv("HF_TOKEN", token)
            with pytest.raises(FileError) as caught:
                datasets.read_items(place)
            error = caught.value
            assert error.code == "gated"
            assert error.where == place
            assert "its terms must be accepted" in error.message
            assert f"{hub.endpoint}/datasets/lab/stones" in error.remedy
            assert "HF_TOKEN" in error.remedy
            assert "hf_other" not in str(error)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert len(datasets.read_items(place)) == 30


def test_unpinned_fields_are_found_at_any_depth():
    assert list(fields({"a": ["x", "UNPINNED"], "b": {"c": "o/n@UNPINNED/x"}, "d": "UNPINNED fields"})) == [
        ("a", 1),
        ("b", "c"),
    ]
