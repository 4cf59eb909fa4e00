"""`model_guidance` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "model_guidance"
ROWS = [{}, {"weights": (0.5,)}]
