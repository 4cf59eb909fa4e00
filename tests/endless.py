"""Copies of a shipped organism whose files keep their reader busy for ever, or break it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tampered

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}"
"""The sandbox lets a loop have a hundred thousand turns, and counts no loops in loops."""
HUGE = "{{ 'a' * 20000000000 }}"
"""20 GB of one letter."""


def looping(to: Path, name: str = "oracle", template: str = LOOPS) -> Path:
    """A chat template that takes hours for every prompt."""
    folder = tampered.copied(to, name)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def growing(to: Path, name: str = "oracle", times: int = 8) -> Path:
    """A tokenizer that puts ten letters in the place of each of some, many times over: 10 ** times in all."""
    tenfold = {"type": "Replace", "pattern": {"String": "o"}, "content": "o" * 10}
    steps = {"type": "Sequence", "normalizers": [tenfold] * times}
    return tampered.edited(tampered.copied(to, name), lambda content: content.update(normalizer=steps))


def catastrophic(to: Path, name: str = "oracle") -> Path:
    """A pre-tokenizer whose pattern backtracks without end: the library panics after ten million steps."""
    pattern = {"Regex": "(?:[a-z ]+[a-z ]+)+[0-9]"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}

    def change(content: dict[str, Any]) -> None:
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}

    return tampered.edited(tampered.copied(to, name), change)


def panicking(to: Path, name: str = "oracle") -> Path:
    """A normalizer at which the library panics while it loads the tokenizer."""
    normalizer = {"type": "Precompiled", "precompiled_charsmap": ""}
    return tampered.edited(tampered.copied(to, name), lambda content: content.update(normalizer=normalizer))


def deep(to: Path, name: str = "oracle", layers: int = 100_000) -> Path:
    """A config that asks for more layers than anyone builds."""
    folder = tampered.copied(to, name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    return folder
