"""`sample` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "sample"
ROWS = [{"marks": (1, 8), "temperatures": (0.5, 1.0)}]
