"""How many examples a property is held to: a fifth of them every day, all of them by `./run test-slow`.

Hypothesis draws others each time, so the days add up.
"""

from __future__ import annotations

import os


def examples(thorough: int) -> int:
    """Of `thorough` examples those to try now; never fewer than 40, or all where there are fewer."""
    return thorough if os.environ.get("THOROUGH") else max(min(thorough, 40), thorough // 5)
