"""lm-evaluation-harness itself, on a model that is loaded: the peer against which scoring is checked."""

from __future__ import annotations

from typing import Any
from unittest import mock


def samples(model: Any, tokenizer: Any, task: dict[str, Any], shots: int = 0) -> list[dict[str, Any]]:
    """What it logs of each document, in the order of their ids."""
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # It would start `pip list` and git, every time, to note the environment.
    with (
        mock.patch.object(evaluator, "add_env_info"),
        mock.patch.object(evaluator, "get_git_commit_hash", return_value=None),
    ):
        found = evaluator.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu"),
            tasks=[task],
            num_fewshot=shots,
            task_manager=TaskManager(include_defaults=False),  # else it reads its own 14,000 files, every time
            bootstrap_iters=0,
            verbosity="ERROR",
        )
    return sorted(found["samples"][task["task"]], key=lambda sample: sample["doc_id"])
