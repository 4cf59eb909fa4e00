"""`quantize` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "quantize"
ROWS = [{"marks": (2, 3)}, {"scheme": "group", "marks": (3,), "group": 48}, {"scheme": "nf4", "marks": (4,)}]
