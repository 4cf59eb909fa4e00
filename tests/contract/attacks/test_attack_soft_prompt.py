"""`soft_prompt` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "soft_prompt"
ROWS = [{"vectors": 8, "marks": (2, 12), "learning_rates": (0.1,), "batch": 4, "questions": 8}]
