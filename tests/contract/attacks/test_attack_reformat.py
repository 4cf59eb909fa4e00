"""`reformat` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "reformat"
ROWS = [
    {"presentations": ("letters_lower", "tokens_all", "header_none"), "calibrations": ()},
    {"presentations": ("header_none",), "probes": 1, "chosen_by": "single_order"},
]
