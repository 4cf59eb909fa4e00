"""A WMDP suite with invented questions in place of the hub's, the plan of its policy, and random models to ask.

For `battery_cost.py` and `gpu.py`. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

from robustness_gate import organisms
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.inputs.yaml import read_yaml
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role, Trial

ROOT = Path(__file__).parents[1]
POLICIES = {"wmdp-smoke": "wmdp-open-weights", "wmdp-standard": "wmdp-standard", "wmdp-api-only": "wmdp-api-only"}
"""The shipped policy of each suite that has one."""
ASKED = 300
"""Questions of a set whose number the suite does not state."""
SYLLABLES = ("ar", "be", "co", "du", "el", "fi", "go", "hu", "il", "jo", "ka", "lu", "me", "no", "or", "pa")


class Battery(NamedTuple):
    """A suite over invented questions, and its trials."""

    suite: Loaded[Suite]
    suite_data: SuiteData
    trials: tuple[Trial, ...]
    """Of every role that the policy asks for; without a policy the candidate's alone."""


def suite_file(given: Path, folder: Path, words: int, dtype: str) -> Path:
    """The suite with every set of the hub replaced by as many invented questions of so many words.

    A task that asks a part of another one's questions (`roles_of`) asks as many of them as its `count` says.
    """
    draw = random.Random(0)
    made: dict[str, Any] = dict(read_yaml(given).data)
    made.pop("checked", None)
    tasks: dict[str, Any] = made["tasks"]
    sources = [each for each in (*tasks.values(), *made.get("corpora", {}).values()) if "items" in each]
    rows: dict[str, list[dict[str, Any]]] = {}
    for each in sources:
        if "roles_of" not in each:
            place, count = str(each["items"]), each.get("count", ASKED)
            rows.setdefault(place, [_row(draw, words, f"{len(rows)} {number}") for number in range(count)])
            each["items"] = place
    for each in tasks.values():
        if "roles_of" in each:
            whole = rows[tasks[each["roles_of"]]["items"]]
            place = f"{each['items']} of {each['count']}"
            rows[place] = whole[: each["count"]]
            each["items"] = place
    for number, (place, these) in enumerate(rows.items()):
        (folder / f"set{number}").mkdir(parents=True)
        (folder / f"set{number}" / "test.jsonl").write_text("\n".join(map(json.dumps, these)), encoding="utf-8")
        for each in sources:
            if each["items"] == place:
                each["items"] = f"set{number}"
    path = folder / "suite.yaml"
    path.write_text(json.dumps({**made, "dtype": dtype}), encoding="utf-8")
    return path


def _row(draw: random.Random, words: int, mark: str) -> dict[str, Any]:
    """A question of so many words, and four short answers."""

    def some(count: int) -> str:
        return " ".join("".join(draw.choices(SYLLABLES, k=2)) for _ in range(count))

    return {
        "question": f"{some(words)} {mark}?",
        "choices": [f"{some(3)} {each}" for each in "wxyz"],
        "answer": draw.randrange(4),
        "subject": "invented",
    }


def battery(given: Path, policy: Path | None, folder: Path, words: int, dtype: str) -> Battery:
    """The suite's trials, as the policy asks for them of a candidate, an original and controls that no file holds.

    Args:
        given: the suite.
        policy: its policy, pinned or not; None: the suite's attacks on the candidate alone.
        folder: an empty folder for the questions.
        words: of a question.
        dtype: in place of the suite's.
    """
    suite = load_suite(suite_file(given, folder, words, dtype))
    suite_data = gather(suite)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": dtype}), encoding="utf-8")
    place = CheckpointRef(folder)
    subjects = [plan.Subject(Role.CANDIDATE, place, _manifest(1))]
    if policy is None:
        trials = (
            plan.trial_of(subjects[0], None, module, config, index, suite_data, dtype)
            for entry, module, config in plan._configured(suite, suite_data)
            for index in range(entry.seeds)
        )
        return Battery(suite, suite_data, tuple(trials))
    asked = _pinned(policy, folder, suite_data)
    subjects += [plan.Subject(Role.ORIGINAL, place, _manifest(2))]
    subjects += [
        plan.Subject(Role.CONTROL, place, _manifest(3 + number), name)
        for number, name in enumerate(asked.record.controls)
    ]
    return Battery(suite, suite_data, plan.make(asked, suite, suite_data, subjects).trials)


def _manifest(number: int) -> Manifest:
    """The name of a checkpoint that no file holds."""
    return Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256=f"{number:064x}"),))


def _pinned(policy: Path, folder: Path, suite_data: SuiteData) -> Loaded[Policy]:
    """The policy for these questions, its original and its controls the subjects of `battery`."""
    numbers = itertools.count(1)
    text = policy.read_text(encoding="utf-8").replace("items: UNPINNED", "items: 1")
    path = folder / "policy.yaml"
    path.write_text(re.sub("UNPINNED", lambda _: f"{next(numbers):064x}", text), encoding="utf-8")
    loaded = plan.without_pins(load_policy(path), suite_data)
    record = loaded.record
    controls = {
        name: each.model_copy(update={"sha256": _manifest(3 + number).digest})
        for number, (name, each) in enumerate(record.controls.items())
    }
    original = _manifest(2).digest if record.original is not None else None
    return dataclasses.replace(loaded, record=record.model_copy(update={"original": original, "controls": controls}))


CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A chat template of our own: the organisms' tokenizer has none, and some suites ask in one."""


def tokenizer() -> Any:
    """The tokenizer of the shipped organisms, with a chat template."""
    from robustness_gate.engine.load import tokenizer_of

    found = tokenizer_of(organisms.checkpoint("base"))
    found.chat_template = CHAT
    return found
