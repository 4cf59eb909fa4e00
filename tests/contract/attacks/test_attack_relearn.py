"""`relearn` under the laws of every attack."""

from attack_laws import *  # noqa: F403 - the laws are the tests of this file

ATTACK = "relearn"
SMALL = {"learning_rates": (2e-3, 1e-2), "marks": (2, 4), "batch": 2, "min_steps": 16, "rank": 4, "alpha": 8}
ROWS = [
    {**SMALL, "source": "forget", "method": "lora"},
    {
        **SMALL,
        "source": "retain",
        "method": "full",
        "repair": "unrelated",
        "repair_on": "questions",
        "repair_steps": 2,
        "repair_rate": 1e-3,
    },
    {**SMALL, "marks": (1,), "learning_rates": (1e-2,), "source": "dev", "folds": 4},
    {**SMALL, "source": "unrelated", "method": "lora", "rotations": 2},
    {**SMALL, "marks": (2,), "source": "forget", "train_on": "texts", "method": "full", "layers": (1, 2)},
]
