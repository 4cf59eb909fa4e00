"""`latent_prompt` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "latent_prompt"
ROWS = [{"marks": (2, 4), "learning_rates": (0.1,), "batch": 4, "questions": 8, "depths": (0.25,)}]
