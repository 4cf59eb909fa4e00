"""`pruning` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "pruning"
ROWS = [
    {"samples": 3, "p": (5.0,), "q": (2.0, 5.0), "utility": ("retain",)},
    {
        "samples": 3,
        "p": (0.5,),
        "q": (5.0, 10.0, 20.0),
        "q_over_p": True,
        "scores": ("snip",),
        "tail": 1,
        "calibrate_on": ("questions",),
        "utility": ("unrelated",),
    },
]
