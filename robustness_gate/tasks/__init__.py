"""What a model is asked: one file a task kind. The folder is the registry.

A task asks a respondent and returns log-likelihoods (`Rows`) or what was written (`Replies`). It never sees the answer
key: the trial holds it, and has the task's own `read` turn them into right and wrong. Every kind has both *readings*,
so that every limit works on it; only `multiple_choice` asks in several orders, elsewhere they are the same.

    multiple_choice   the likeliest letter, in all letter orders
    cloze             the likeliest of the choices' words, of which none is shown
    open_answer       the model writes, and says the right words
    lm_eval           a task in lm-evaluation-harness's own YAML
    refusal           the model writes, and does not decline: over-refusal, for guardrails
    membership        texts that were to be forgotten look likelier than texts never seen: a warning

A module holds `KEYS` (what a suite may say of such a task), `Config`, `ask`, `read` and `summary`.
"""

KINDS = ("cloze", "lm_eval", "membership", "multiple_choice", "open_answer", "refusal")
"""What a suite may write as a task's `kind`."""
