"""`perturb` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "perturb"
ROWS = [{"every": (9,), "shares": (), "characters": ("!",), "slips": (), "screened": 2, "finalists": 1}]
