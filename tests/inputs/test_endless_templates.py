"""Templates of a task file that never end, want the whole memory, or call themselves: one sentence, and soon."""

from __future__ import annotations

import json
import resource
import signal
import threading
from pathlib import Path

import pytest

from robustness_gate.errors import FileError
from robustness_gate.inputs.harness.rows import items_of, read_items
from robustness_gate.inputs.harness.task_file import load
from robustness_gate.inputs.harness.templates import LIMITS, Limits
from robustness_gate.system.in_place import in_place

SOON = Limits(seconds=0.05, a_row=0.0, room=64 << 20)
DOUBLED = "{% for i in range(60) %}{% set ns.x = ns.x OP ns.x %}{% endfor %}"
TEMPLATES = {
    "nested loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{stem}}",
        "takes longer than 0.05 s",
    ),
    "a pattern": ("{{ ('a' * 40)|regex_replace('(a|aa)+$!', '') }}{{stem}}", "takes longer than 0.05 s"),
    "a text so many times": ("{{ 'a' * 9000000000 }}{{stem}}", "more than 1,000,000 characters"),
    "so many times a text": ("{{ 9000000000 * stem }}", "more than 1,000,000 characters"),
    "a list so many times": ("{{ ([0] * 9000000000)|length }}{{stem}}", "more than 1,000,000 characters"),
    "a power": ("{{ 10 ** 10000000 }}{{stem}}", "more than 1,000,000 characters"),
    "a number squared": (
        "{% set ns = namespace(x=9) %}" + DOUBLED.replace("OP", "*") + "{{stem}}",
        "more than 1,000,000 characters",
    ),
    "a text doubled": (
        "{% set ns = namespace(x='a') %}" + DOUBLED.replace("OP", "+") + "{{stem}}",
        "more than 1,000,000 characters",
    ),
    "a text joined": ("{% set ns = namespace(x='a') %}" + DOUBLED.replace("OP", "~") + "{{stem}}", "more memory"),
    "a wide text": ("{{ stem|center(9000000000) }}", "more memory"),
    "a wide constant": ("{{ 'a'|center(9000000000) }}{{stem}}", "more memory"),
    "a wider one than there can be": ("{{ stem|center(10 ** 30) }}", "too large"),
    "ten to a power": ("{{ 1|round(9000000000) }}{{stem}}", "no number has 9,000,000,000 digits"),
    "a macro of itself": ("{% macro f(n) %}{{ f(n+1) }}{% endmacro %}{{ f(0) }}", "too deeply"),
    "a deep one": ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "too deeply"),
}


def items(folder: Path, limits: Limits = SOON, **keys: str):
    told = {"task": "t", "doc_to_text": "{{stem}}", "doc_to_choice": "{{options}}", "doc_to_target": "label", **keys}
    (folder / "task.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in told.items()))
    rows = [{"stem": f"Is {n} even?", "options": ["yes", "no"], "label": n % 2} for n in range(4)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load(folder / "task.yaml", limits=limits)
    return read_items(loaded, folder / "docs.jsonl", limits)


@pytest.mark.parametrize("what", TEMPLATES)
def test_a_template_without_end_is_refused_in_one_sentence(tmp_path, what):
    template, words = TEMPLATES[what]
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(FileError, match=words) as caught:
        items(tmp_path, doc_to_text=template)
    assert caught.value.where.startswith(f"{tmp_path / 'task.yaml'}:2:")
    assert caught.value.remedy
    assert "\n" not in str(caught.value).strip()
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@pytest.mark.parametrize("key", ["doc_to_choice", "doc_to_target", "description"])
def test_every_template_is_held_to_it_and_names_its_row(tmp_path, key):
    with pytest.raises(FileError, match=rf"{key}, .*docs.jsonl:1: the template fails: takes longer"):
        items(tmp_path, **{key: TEMPLATES["nested loops"][0]})


def test_all_rows_together_have_one_limit(tmp_path):
    """A template that takes a while, on each of many rows, would otherwise take hours."""
    slow = "{% for a in range(20000) %}{% endfor %}{{stem}}"
    assert len(items(tmp_path, LIMITS, doc_to_text=slow)) == 4
    loaded = load(tmp_path / "task.yaml")
    rows = [(f"row {n}", {"stem": f"q{n}", "options": ["a", "b"], "label": 0}) for n in range(10_000)]
    with pytest.raises(FileError, match=r"row [1-9]\d*: .*takes longer than 0.05 s"):
        items_of(loaded, rows, "docs", SOON)


def test_what_is_honest_is_read_under_the_usual_limits_in_another_thread_too(tmp_path):
    found = items(tmp_path, LIMITS, doc_to_text="{{ '-' * 80 }} {{ 2 ** 10 + 1.5 }} {{ 2.345|round(2) }} {{stem}}")
    assert found[0].question.stem == f"{'-' * 80} 1025.5 2.35 Is 0 even?"
    other: list[object] = []
    thread = threading.Thread(target=lambda: other.append(items(tmp_path, LIMITS)))
    thread.start()
    thread.join()
    assert len(other[0]) == 4


def test_a_clock_that_someone_else_set_is_set_again():
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000.0, 7.0)
        with in_place(500.0, 1 << 30):
            pass
        left, again = signal.getitimer(signal.ITIMER_VIRTUAL)
        assert 900 < left <= 1001
        assert again == pytest.approx(7.0, abs=0.1)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
