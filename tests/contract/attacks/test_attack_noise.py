"""`noise` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "noise"
ROWS = [{"marks": (50, 200), "draws": 2}, {"marks": (100,), "draws": 1, "where": "linear"}]
