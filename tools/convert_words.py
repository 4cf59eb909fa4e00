"""Rename keys and metrics of a policy, a suite or a file of cases that was written before 0.1.0's words were settled.

    python tools/convert_words.py FILE...          # prints what it would change
    python tools/convert_words.py --write FILE...  # changes the files

Only keys and the names of metrics are replaced, each at its own place in the text: comments, order and layout stay. A
key is renamed where it means what it meant, so a corpus that is called `marks` keeps its name. Metrics get the names of
multiple_choice; for a task of another kind take the key out: `policy check --suite` says where. A file that is already
in the new words is left as it is. Digests of files change with their bytes: `extends`, pins of policies and
preregistrations have to be made anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ANYWHERE = {"marks": "budgets", "reading": "metric", "canary": "positive_control"}
"""By key, wherever it stands as a key of ours."""
AT_THE_TOP = {"says": "description"}
UNDER = {"limits": {"over": "relative_to"}, "ratchet": {"over": "relative_to"}, "tuning": {"over": "setting"},
         "cases": {"says": "description"}}  # fmt: skip
"""By the key of the block in which it stands."""
METRICS = {"content_sum": "acc_permuted", "single_order": "acc"}
"""Values, under the keys of METRIC_KEYS."""
METRIC_KEYS = ("metric", "reading", "chosen_by")
NAMES_OF_USERS = ("tasks", "corpora", "controls", "data", "where")
"""Blocks whose keys are names that a user chose, or an attack's settings; `where` renames an attack's `marks` too."""


def renamed(node: yaml.Node, block: str = "") -> Iterator[tuple[int, str, str]]:
    """(place in the text, old name, new name) for each key or metric that was renamed. `block` is the key above."""
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from renamed(each, block)
    if not isinstance(node, yaml.MappingNode):
        return
    known = {**ANYWHERE, **({} if block else AT_THE_TOP), **UNDER.get(block, {})}
    for key, value in node.value:
        name = key.value
        if name in known and (block not in NAMES_OF_USERS or (block == "where" and name == "marks")):
            yield key.start_mark.index, name, known[name]
        if name in METRIC_KEYS and isinstance(value, yaml.ScalarNode) and value.value in METRICS:
            yield value.start_mark.index, value.value, METRICS[value.value]
        yield from renamed(value, name if block not in NAMES_OF_USERS else f"{block}.{name}")


def convert(text: str) -> str:
    """The same YAML in the new words. Raises yaml.YAMLError where it is none."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found = sorted(renamed(root), reverse=True) if root is not None else []
    for place, old, new in found:
        start = place + (text[place] in "'\"")
        text = text[:start] + new + text[start + len(old) :]
    return text


def main() -> int:
    """Leaves with 2 where a file cannot be read as YAML, else with 0."""
    asked = argparse.ArgumentParser(description="Rename old keys in policies, suites and cases.")
    asked.add_argument("--write", action="store_true", help="change the files; without it they are only looked at")
    asked.add_argument("files", nargs="+", type=Path)
    given = asked.parse_args()
    for path in given.files:
        try:
            before = path.read_text(encoding="utf-8")
            after = convert(before)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            print(f"{path}: cannot be read as YAML: {error}", file=sys.stderr)
            return 2
        lines = [
            f"{path}:{number}: {new.strip()}"
            for number, (old, new) in enumerate(zip(before.splitlines(), after.splitlines(), strict=True), start=1)
            if old != new
        ]
        print("\n".join(lines) if lines else f"{path}: is in the new words already")
        if given.write and after != before:
            path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
