"""`enhanced_prefix` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "enhanced_prefix"
SEARCH = {"source": "retain", "tokens": 3, "candidates": 8, "questions": 1, "looks": 9, "header": False}
ROWS = [{**SEARCH, "shortest": 3, "longest": 4, "marks": (1, 3), "warm": 1}]
