"""`refusal_direction` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "refusal_direction"
ROWS = [
    {"declined": "wrong", "questions": 8, "validating": 4, "positions": 2, "tried": 2, "max_kl": 1.0},
]
