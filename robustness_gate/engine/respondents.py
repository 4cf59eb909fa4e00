"""Respondents around a respondent: what an attacker does who can only ask, and who hears the answers.

They change nothing in the model. What they are asked goes on as something else, and the letter orders of
`engine.score.content_logliks`, both readings and the utility tasks come through them like any other question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from robustness_gate.errors import NotApplicable
from robustness_gate.nouns import Form, Question, Respondent

Edit = Callable[[Question, Form], tuple[Question, Form]]
"""What is asked instead. The choices keep their number and places: an answer is read by where it stands."""


@dataclass(frozen=True)
class Edited:
    """Asks something else than it was told to ask, and hands the answers on."""

    respondent: Respondent
    edit: Edit

    def choose(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """The respondent's answers to the edited questions: [question, choice]; equal forms are asked together.

        An edit that changes nothing asks exactly what it was told, in the same batches: the answers are the same bits.
        """
        edited = [self.edit(question, form) for question in questions]
        together: dict[Form, list[int]] = {}
        for at, (_, asked) in enumerate(edited):
            together.setdefault(asked, []).append(at)
        found = torch.empty(len(questions), len(questions[0].choices))
        for asked, places in together.items():
            found[places] = self.respondent.choose([edited[at][0] for at in places], asked)
        return found

    def write(self, prompts: Sequence[str]) -> list[str]:  # noqa: ARG002 - the protocol has it
        """Not offered: a finished prompt has no question left that could be edited."""
        raise NotApplicable("this attack edits questions, and was handed finished prompts")
