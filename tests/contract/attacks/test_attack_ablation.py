"""`ablation` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "ablation"
ROWS = [
    {"skip_tokens": 12, "directions": ("retain", "unrelated"), "questions": 8},
    {"skip_tokens": 12, "single_layers": False, "questions": 12},
    {"skip_tokens": 12, "directions": ("retain",), "questions": 8, "apply": "fold", "all_layers": False},
]
