"""`steer` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "steer"
ROWS = [{"depths": (0.0, 0.5), "multiples": (1.0, 4.0), "questions": 4}]
