"""Every command that a document shows exists, with these options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from robustness_gate.cli import app, verbs

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs/**/*.md", ".github/**/*.md", "benchmarks/*.md", "organisms/*.md", "robustness_gate/**/*.md")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in ROOT.glob(folder))])
verbs.imported(verbs.ALL)
COMMANDS = typer.main.get_command(app)


def shown(text: str) -> Iterator[list[str]]:
    """The words after `robustness-gate` of every command in inline code or in an indented or fenced block."""
    whole = re.sub(r"\\\n\s*", " ", text)
    fenced = re.findall(r"^```\w*\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += re.findall(r"^ {4,}(\S.*)$", whole, re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```\w*\n.*?^```", "", whole, flags=re.MULTILINE | re.DOTALL))
    for each in [*lines, *(" ".join(code.split()) for code in inline)]:
        for command in re.findall(r"(?:^|[\s$(])robustness-gate((?: +[^\s|;&#>)]+)*)", each):
            yield command.split()


def faults(words: list[str]) -> list[str]:
    """The verbs and options of a command that do not exist."""
    command, path = COMMANDS, "robustness-gate"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        verb, *words = words
        if verb not in command.commands:
            return [] if verb.isupper() or not verb.isascii() else [f"{path} {verb}"]
        command, path = command.commands[verb], f"{path} {verb}"
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"{path} {option}" for option in options if option.rstrip(".,:") not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_document_exists_with_its_options(page: Path) -> None:
    found = list(shown(page.read_text(encoding="utf-8")))
    assert [fault for words in found for fault in faults(words)] == []


def test_commands_are_found_in_every_form_and_a_wrong_one_is_a_fault() -> None:
    text = (
        "Say `robustness-gate judge runs/1\n--at X`, or `--policy`.\n\n    robustness-gate run M --policy P \\\n"
        "        --outt O  # --no\n\n```sh\n$ robustness-gate policy shows P | cat --flag\n```\n"
    )
    found = sorted(shown(text))
    assert found == [
        ["judge", "runs/1", "--at", "X"],
        ["policy", "shows", "P"],
        ["run", "M", "--policy", "P", "--outt", "O"],
    ]
    assert [faults(words) for words in found] == [[], ["robustness-gate policy shows"], ["robustness-gate run --outt"]]


def test_the_readme_shows_most_verbs() -> None:
    """Else nothing of the above was looked at."""
    verbs = {words[0] for words in shown((ROOT / "README.md").read_text(encoding="utf-8")) if words}
    assert verbs >= {"run", "plan", "doctor", "judge", "why", "compare", "policy", "keys", "sign", "verify", "audit"}
