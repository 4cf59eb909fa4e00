"""Doctor's findings: a state, a code of a closed set, and arguments. `wording` has the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from robustness_gate.errors import GateError
from robustness_gate.system.sentences import Argument

State = Literal["ok", "note", "PROBLEM"]
Part = Literal["machine", "checkpoint", "attacks"]


class Code(StrEnum):
    """What was found."""

    # the machine
    PYTHON = "python"
    INSTALLED = "installed"
    NOT_INSTALLED = "not-installed"
    USEFUL_NOT_INSTALLED = "useful-not-installed"
    CANNOT_BE_IMPORTED = "cannot-be-imported"
    FOLDER_NOT_WRITABLE = "folder-not-writable"
    LITTLE_DISK = "little-disk"
    DISK = "disk"
    GPU = "gpu"
    CPU = "cpu"
    MEMORY_TOO_SMALL = "memory-too-small"
    MEMORY_SCARCE = "memory-scarce"
    # the files
    REFUSED = "refused"
    BROKE_DOWN = "broke-down"
    UNREADABLE = "unreadable"
    DIGEST = "digest"
    FILES = "files"
    WRAPPER = "wrapper"
    ADAPTER = "adapter"
    MODEL_TYPE = "model-type"
    NO_MODEL_TYPE = "no-model-type"
    CAN_BE_SELF_TESTED = "can-be-self-tested"
    CANNOT_BE_SELF_TESTED = "cannot-be-self-tested"
    PASS_IS_POSSIBLE = "pass-is-possible"
    NO_PASS = "no-pass"
    PARAMETERS = "parameters"
    CONTEXT = "context"
    NO_CONTEXT = "no-context"
    NO_TOKENIZER = "no-tokenizer"
    OTHER_WEIGHTS = "other-weights"
    OTHER_WEIGHTS_UNKNOWN = "other-weights-unknown"
    IGNORED = "ignored"
    QUANTISED = "quantised"
    STORED_PRECISION = "stored-precision"
    CONFIG_PRECISION = "config-precision"
    ORIGINAL_OTHER_TENSORS = "original-other-tensors"
    ORIGINAL_SAME_TENSORS = "original-same-tensors"
    # the model
    NOT_LOADED_INSTALLATION = "not-loaded-installation"
    NOT_LOADED_ASKED = "not-loaded-asked"
    NOT_LOADED_SUITE = "not-loaded-suite"
    NOTHING_TO_ASK = "nothing-to-ask"
    OVER_A_LIMIT = "over-a-limit"
    TENSORS_LEFT_ASIDE = "tensors-left-aside"
    BLOCKS = "blocks"
    BLOCKS_UNKNOWN = "blocks-unknown"
    # tokenizer and template
    TOKENIZER = "tokenizer"
    TOKENS_WITHOUT_ROW = "tokens-without-row"
    TOKENIZER_DIGESTS = "tokenizer-digests"
    SAME_PARTS = "tokenizer-same-parts"
    OTHER_PARTS = "tokenizer-other-parts"
    SAME_IDS = "same-token-ids"
    OTHER_IDS = "other-token-ids"
    SAME_RENDERING = "same-rendering"
    OTHER_RENDERING = "other-rendering"
    TEMPLATE = "chat-template"
    NO_TEMPLATE = "no-chat-template"
    TEMPLATE_NEEDED = "chat-template-needed"
    TEMPLATE_ASKS_DATE = "chat-template-asks-date"
    # what is asked
    LETTERS = "letters"
    LETTERS_NOT_ONE_TOKEN = "letters-not-one-token"
    PROMPT = "prompt"
    SPECIAL_TOKENS = "special-tokens"
    LOST_LETTERS = "lost-letters"
    NULL_CHARACTERS = "null-characters"
    BYTE_ORDER_MARKS = "byte-order-marks"
    LONGER_THAN_CONTEXT = "longer-than-context"
    END_MARKS_ARE_WORDS = "end-marks-are-words"
    NOT_FINITE = "not-finite"
    PADDING = "padding"
    WHOLE_PASSES = "whole-passes"
    ANSWERS = "answers"
    ORIGINAL_ANSWERS = "original-answers"
    ORIGINAL_GUESSES = "original-guesses"
    CANDIDATE_GUESSES = "candidate-guesses"
    GUESSES_NO_ORIGINAL = "guesses-no-original"
    # the attacks
    SUITE = "suite"
    ATTACKS_NOT_TRIED = "attacks-not-tried"
    APPLIES = "applies"
    APPLIES_WITHOUT_ORIGINAL = "applies-without-original"
    NO_HAZARD_FORM = "no-hazard-form"
    NOT_APPLICABLE = "not-applicable"
    WOULD_FAIL = "would-fail"
    SETTING_NOT_APPLICABLE = "setting-not-applicable"
    REACHES_ALL = "reaches-all"
    REACHES_PART = "reaches-part"
    MADE_ON = "made-on"
    NOT_IN_FORM = "not-in-form"


@dataclass(frozen=True)
class Check:
    """One finding: what was checked, its state, and a code with its arguments."""

    part: Part
    state: State
    name: str
    """What was checked; for an attack, its name."""
    code: Code
    args: Mapping[str, Argument]


def found(part: Part, state: State, name: str, code: Code, /, **args: Argument) -> Check:
    """A check with its arguments as keywords."""
    return Check(part, state, name, code, args)


def problem(part: Part, name: str, error: Exception) -> Check:
    """A problem that an error describes; a GateError brings its own sentence and remedy."""
    if isinstance(error, GateError):
        message = f"{error.where}: {error.message}" if error.where else error.message
        return found(part, "PROBLEM", name, Code.REFUSED, message=message, remedy=error.remedy)
    return found(part, "PROBLEM", name, Code.BROKE_DOWN, message=first_line(error))


def first_line(error: Exception) -> str:
    """An error's text, at most 200 characters, with its type where it is not a GateError."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line[:200] if isinstance(error, GateError) else f"{type(error).__name__}: {line[:200]}"


def can_run(checks: tuple[Check, ...]) -> bool:
    """Whether nothing prevents a run."""
    return not any(check.state == "PROBLEM" for check in checks)
