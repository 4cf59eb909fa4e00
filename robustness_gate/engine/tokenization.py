"""Compare two tokenizers: their token ids of the same texts, and their parts.

`content` is the part of the loaded tokenizer (not of its files) that determines the encoding: the same tokenizer saved
by another release, under another class or with other comments has the same digest, and one with similar files that is
built differently at loading has another. Vocabulary, merges, normalizers, pre-tokenizers, post-processors, added and
special tokens are in it, and the decoder, which turns generated tokens into text. Padding and truncation are left out,
because the gate sets them on every call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from robustness_gate.engine import events
from robustness_gate.engine.prompting import Prompt, encode, prompt_of
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.prompts import rotated
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.evidence import TokenizerPart
from robustness_gate.records.questions import Form, Question

PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
SETTINGS = (
    "split_special_tokens",
    "clean_up_tokenization_spaces",
    "model_max_length",
    "padding_side",
    "truncation_side",
)
"""Parts that are compared. The first two are in the content; the gate sets padding and truncation itself."""


def content(tokenizer: Any) -> dict[str, Json]:
    """The data that determine the encoding, in a form that is equal for equal behaviour."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python: its class, its vocabulary, and its arguments
        return {
            "class": type(tokenizer).__name__,
            "vocabulary": dict(sorted(tokenizer.get_vocab().items())),
            "settings": _plain({k: v for k, v in tokenizer.init_kwargs.items() if k not in _OF_A_FILE}),
            **_special(tokenizer),
        }
    whole = json.loads(backend.to_str())
    model = whole["model"]
    model["merges"] = [each.split(" ") if isinstance(each, str) else each for each in model.get("merges") or []]
    parts = {name: whole.get(name) for name in ("model", *PIPELINE)}
    added = sorted(whole.get("added_tokens") or [], key=lambda each: each["id"])
    return {
        **{name: _plain(value) for name, value in parts.items()},
        "added_tokens": _plain(added),
        **_special(tokenizer),
    }


def digest(tokenizer: Any) -> str:
    """SHA-256 of the content."""
    return digest_of(content(tokenizer))


def template_digest(tokenizer: Any) -> str:
    """SHA-256 of the chat templates, with the special tokens that they may put into a text."""
    return digest_of([_templates(tokenizer), _special(tokenizer)])


def _special(tokenizer: Any) -> dict[str, Json]:
    """The special tokens by role. Without the padding token, which represents no text and which the gate may set."""
    named = {name: str(each) for name, each in tokenizer.special_tokens_map.items() if isinstance(each, str)}
    named.pop("pad_token", None)
    switches = {name: bool(getattr(tokenizer, name, False)) for name in SETTINGS[:2]}
    return {"special": dict(sorted(named.items())), **switches}


def _templates(tokenizer: Any) -> Json:
    found = getattr(tokenizer, "chat_template", None)
    return dict(sorted(found.items())) if isinstance(found, Mapping) else found


def _plain(value: Any) -> Json:
    """Without None, False and empty values, so that a setting which a later release adds with such a default changes
    nothing.

    Numbers that JSON writes in several ways (a Unigram's scores) become text; the order of a vocabulary is dropped.
    """
    if isinstance(value, Mapping):
        kept = {str(key): _plain(each) for key, each in value.items()}
        return {
            key: each for key, each in sorted(kept.items()) if not (each is None or each is False or each in ([], {}))
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, bool, type(None))) else repr(value)


_OF_A_FILE = frozenset(
    {"name_or_path", "vocab_file", "merges_file", "tokenizer_file", "vocab", "merges", "chat_template"}
)


# --- text by text -----------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """How many texts were encoded by both tokenizers and rendered by both templates, and which differ.

    Ids that the two decode into different text count too, because generated text is decoded.
    """

    texts: int = 0
    rendered: int = 0
    otherwise: dict[str, int] = field(default_factory=dict)
    """By item: how many of its texts have other ids."""
    templated: dict[str, int] = field(default_factory=dict)


def compare(ours: Any, theirs: Any, asked: Sequence[Asked], read: Mapping[str, Sequence[str]]) -> Counts:
    """Encode everything with both tokenizers.

    Args:
        ours: the candidate's.
        theirs: the original's.
        asked: questions, in every letter order that the gate uses, with all possible answers.
        read: plain texts by name: corpora.
    """
    counts = Counts()
    for each in asked:
        for special, texts in _prompts(counts, ours, theirs, each).items():
            _compare_texts(counts, ours, theirs, texts, special=special)
    for name, alone in read.items():
        _compare_texts(counts, ours, theirs, [(name, text) for text in alone], special=True)
    return counts


class Asked(NamedTuple):
    """Questions in a form, with their name in a report."""

    name: str
    questions: Sequence[Question]
    form: Form


def _prompts(counts: Counts, ours: Any, theirs: Any, asked: Asked) -> dict[bool, list[tuple[str, str]]]:
    """(item, text) of each prompt alone and with every answer, in the original's template; by `Prompt.special`."""
    found: dict[bool, list[tuple[str, str]]] = {}
    for question in asked.questions:
        where = f"{asked.name}:{question.id}"
        for order in range(1 if asked.form.verbatim else len(question.choices)):
            turned = rotated(question, order)
            mine, its = (_rendered(tokenizer, turned, asked.form) for tokenizer in (ours, theirs))
            if asked.form.chat:
                counts.rendered += 1
                if (mine and mine.text) != (its and its.text):
                    counts.templated[where] = counts.templated.get(where, 0) + 1
            if shown := its or mine:
                after = ["", *(shown.answers if order == 0 else ())]
                found.setdefault(shown.special, []).extend((where, shown.text + each) for each in after)
    return found


def _rendered(tokenizer: Any, question: Question, form: Form) -> Prompt | None:
    try:
        return prompt_of(tokenizer, question, form)
    except NotApplicable:
        return None


def _compare_texts(counts: Counts, ours: Any, theirs: Any, named: Sequence[tuple[str, str]], *, special: bool) -> None:
    if not named:
        return
    texts = [text for _, text in named]
    counts.texts += len(texts)
    mine, its = (encode(tokenizer, texts, special=special) for tokenizer in (ours, theirs))
    back, other_back = (tokenizer.batch_decode(its, skip_special_tokens=True) for tokenizer in (ours, theirs))
    for (where, _), *pair in zip(named, zip(mine, back, strict=True), zip(its, other_back, strict=True), strict=True):
        if pair[0] != pair[1]:
            counts.otherwise[where] = counts.otherwise.get(where, 0) + 1


# --- what they are made of --------------------------------------------------------------------------------------------


def differences(ours: Any, theirs: Any) -> Iterator[TokenizerPart]:
    """Differences between the candidate's and the original's tokenizer: kinds, counts and tokens."""
    mine, its = _parts(ours), _parts(theirs)
    for part in PIPELINE:
        if mine[part] != its[part]:
            yield from _listed(part, _kinds(mine[part]), _kinds(its[part]))
    yield from _other("model", mine["model"], its["model"])
    moved = [word for word, number in mine["vocabulary"].items() if its["vocabulary"].get(word, number) != number]
    if moved:
        yield TokenizerPart(part="vocabulary", how="other", count=len(moved))  # the added words may be the hazard's own
    if new := len(mine["vocabulary"].keys() - its["vocabulary"].keys()):
        yield TokenizerPart(part="vocabulary", how="more", count=new)
    if gone := len(its["vocabulary"].keys() - mine["vocabulary"].keys()):
        yield TokenizerPart(part="vocabulary", how="fewer", count=gone)
    if mine["merges"] != its["merges"]:
        changed = sum(a != b for a, b in zip(mine["merges"], its["merges"], strict=False))
        changed += abs(len(mine["merges"]) - len(its["merges"]))
        yield TokenizerPart(part="merges", how="other", count=changed)
    yield from _listed("added_tokens", list(mine["added"]), list(its["added"]))
    if same := [name for name, each in mine["added"].items() if its["added"].get(name, each) != each]:
        yield _part("added_tokens", "other", same)
    yield from _other("special_tokens", _special(ours)["special"], _special(theirs)["special"])
    settings = [{name: getattr(each, name, None) for name in SETTINGS} for each in (ours, theirs)]
    yield from _other("settings", *settings)
    if _templates(ours) != _templates(theirs):
        yield TokenizerPart(part="chat_template", how=_way(_templates(ours), _templates(theirs)), count=1)


def _way(mine: Json, its: Json) -> Any:
    return "more" if not its else "fewer" if not mine else "other"


def _parts(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = json.loads(backend.to_str()) if backend is not None else {}
    model = dict(whole.get("model") or {"type": type(tokenizer).__name__})
    model.pop("vocab", None)
    merges = [
        tuple(each.split(" ")) if isinstance(each, str) else tuple(each) for each in model.pop("merges", None) or []
    ]
    added = {each["content"]: _plain(each) for each in whole.get("added_tokens") or []}
    words = {word: number for word, number in tokenizer.get_vocab().items() if word not in added}
    parts = {part: whole.get(part) for part in PIPELINE}
    return {**parts, "model": _plain(model), "merges": merges, "added": added, "vocabulary": words}


def _kinds(step: Json) -> list[str]:
    """Each step of a part as its kind and a digest of its content, so that a changed pattern is another step."""
    if not isinstance(step, Mapping):
        return []
    inside = next((step[key] for key in _SEQUENCES if isinstance(step.get(key), list)), None)
    if step.get("type") == "Sequence" and inside is not None:
        return [kind for each in inside for kind in _kinds(each)]
    return [f"{step.get('type')} {digest_of(_plain(step))}"]


_SEQUENCES = ("normalizers", "pretokenizers", "processors", "decoders")


def _listed(part: Any, mine: Sequence[str], its: Sequence[str]) -> Iterator[TokenizerPart]:
    """Counts of added and removed steps. The same kinds with other settings or in another order are `other`."""
    more, fewer = _beyond(mine, its), _beyond(its, mine)
    if more and part != "added_tokens" and _by_kind(more) == _by_kind(fewer):
        yield _part(part, "other", more)
        return
    for how, names in (("more", more), ("fewer", fewer)):
        if names:
            yield _part(part, how, names)
    if part != "added_tokens" and not more and not fewer and list(mine) != list(its):
        yield _part(part, "other", list(mine))


def _by_kind(steps: Sequence[str]) -> list[str]:
    return sorted(each.partition(" ")[0] for each in steps)


def _beyond(one: Sequence[str], other: Sequence[str]) -> list[str]:
    left = list(other)
    found = []
    for each in one:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found


def _other(part: Any, mine: Mapping[str, Any], its: Mapping[str, Any]) -> Iterator[TokenizerPart]:
    names = [name for name in dict.fromkeys((*mine, *its)) if mine.get(name) != its.get(name)]
    if names:
        yield _part(part, "other", names)


def _part(part: Any, how: Any, names: Sequence[str]) -> TokenizerPart:
    shown = dict.fromkeys(each if part == "added_tokens" else each.partition(" ")[0] for each in names)
    return TokenizerPart(part=part, how=how, count=len(names), names=tuple(_short(each) for each in [*shown][:3]))


def _short(name: str) -> str:
    """An untrusted token on one printable line."""
    printable = "".join(each if each.isprintable() else "?" for each in name)
    return printable if len(printable) <= 24 else f"{printable[:21]}..."


# --- while an attack runs ---------------------------------------------------------------------------------------------


@contextmanager
def watched(ours: Any, theirs: Any) -> Iterator[Callable[[], int]]:
    """While the block is open, everything that `ours` encodes is encoded by `theirs` too.

    An attack asks and trains on texts that are not in the suite. Yields the count of texts with other ids, each counted
    once.
    """
    known = dict[tuple[bytes, bool], bool]()

    def look(tokenizer: Any, texts: Sequence[str], encoded: Sequence[list[int]], special: bool) -> None:
        if tokenizer is not ours:
            return
        names = [(sha256(text.encode("utf-8", "replace")).digest(), special) for text in texts]
        new = {name: place for place, name in enumerate(names) if name not in known}
        its = encode(theirs, [texts[place] for place in new.values()], special=special)
        known.update({name: encoded[place] != ids for (name, place), ids in zip(new.items(), its, strict=True)})

    with events.watching(look):
        yield lambda: sum(known.values())
