"""`perturb_informed` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "perturb_informed"
ROWS = [
    {"depths": (0.0,), "thresholds": (0.5,), "questions": 4, "rounds": 2},
    {"depths": (0.0,), "thresholds": (0.3,), "questions": 4, "rounds": 1, "direction": "original"},
]
