"""A distribution of someone else's: a wheel with an attack, a task kind, an executor and a publisher, really built."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ATTACK = '''\
"""Flip: nothing is changed, by somebody else."""
from robustness_gate.attacks.none import *

VERSION = 7
'''
TASK = '''\
"""Riddles: lettered questions, answered only where the first choice leads the second by a margin of nats."""
from dataclasses import dataclass, replace

from robustness_gate.records.questions import Kind, Scored
from robustness_gate.tasks import multiple_choice
from robustness_gate.tasks.multiple_choice import Config, put
from robustness_gate.tasks.multiple_choice import questions as lettered

KEYS = frozenset({"topic"})
JUDGED = Kind(
    version=1,
    generative=False, guarded=True, attacked_as="multiple_choice", metrics=("solved",)
)


@dataclass(frozen=True)
class Settings:
    first: int = 10
    spelled: str = ""
    temperature: float = 1.0
    margin: float = 0.0


def questions(given):
    return lettered(given)[: given.settings.first]


def ask(lm, config):
    rows = multiple_choice.ask(lm, config)
    return replace(rows, loglik=rows.loglik / config.form.settings.temperature)


def read(rows, key):
    scored = multiple_choice.read(rows, key)
    leads = [float(two[0] - two[1]) for two in rows.loglik.sum(dim=1).topk(2).values]
    solved = [right and lead >= rows.settings.margin for right, lead in zip(scored.correct["acc_permuted"], leads)]
    return Scored({"solved": solved}, scored.missing)


def summary(rows, key):
    return {}
'''
EXECUTOR = '''\
"""One after the other."""
from robustness_gate.running.executors import local


def start(job, workers):
    return local.start(job, 1)
'''
PUBLISHER = '''\
"""The verdict in a word."""
FILE = "word.txt"


def render(report):
    return report.verdict.outcome + "\\n"
'''
FILES = {
    "acme_gate/__init__.py": "",
    "acme_gate/flip.py": ATTACK,
    "acme_gate/riddle.py": TASK,
    "acme_gate/serial.py": EXECUTOR,
    "acme_gate/word.py": PUBLISHER,
    "acme_gate/broken.py": "import no_such_module_anywhere\n",
    "acme_gate/halved.py": "FAMILY = 'half'\n",
    "acme_gate/unasked.py": "raise SystemExit('nobody named it')\n",
}
POINTS = {
    "attacks": {
        "flip": "acme_gate.flip",
        "relearn": "acme_gate.flip",
        "broken": "acme_gate.broken",
        "quits": "acme_gate.unasked",
        "halved": "acme_gate.halved",
        "callable": "acme_gate.flip:attack",
        "ours": "robustness_gate.attacks.none",
    },
    "tasks": {"riddle": "acme_gate.riddle"},
    "executors": {"serial": "acme_gate.serial"},
    "publishers": {"word": "acme_gate.word", "broken": "acme_gate.broken"},
}


def wheel(folder: Path, files: Mapping[str, str] = FILES, named: Mapping[str, Mapping[str, str]] = POINTS) -> Path:
    """Write the wheel by hand, as a build backend would: the files, METADATA, WHEEL, entry points, RECORD."""
    points = "\n".join(
        f"[robustness_gate.{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())
        for group, found in named.items()
    )
    about = "acme_gate-1.2.dist-info"
    whole = {
        **files,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: Acme.Gate\nVersion: 1.2\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": points,
    }
    record = "".join(f"{name},sha256={_of(text)},{len(text.encode())}\n" for name, text in whole.items())
    place = folder / "acme_gate-1.2-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as file:
        for name, text in {**whole, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            file.writestr(name, text)
    return place


def _of(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def install(wheel: Path, target: Path) -> Path:
    """Into a folder of its own, by pip, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "-q"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(wheel)], check=True, timeout=120)
    return target
