"""`universal_prefix` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "universal_prefix"
SEARCH = {"source": "retain", "tokens": 3, "candidates": 8, "questions": 1, "looks": 9, "header": False}
ROWS = [{**SEARCH, "marks": (1, 2), "restarts": 2, "batch": 1}]
