"""Encodings are kept: questions that an attack asks hundreds of times are encoded, and checked for losses, once.

The key is the text itself, and what it is checked against, so nothing can be taken for another question's or form's.
Kept encodings are dropped when the tokenizer changed: its template, special and added tokens, normalizer,
pre-tokenizer or post-processor, or the encoding of the first or last text, which is made anew every time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from robustness_gate.engine import events, prompting
from robustness_gate.engine.state import of_tokenizer

MOST = 20_000
"""Maximum number of prompts that are kept for a tokenizer; the set that was asked longest ago goes first."""
PARTS = ("normalizer", "pre_tokenizer", "post_processor")

Value = TypeVar("Value")


@dataclass
class _Store:
    state: Any
    """What determines the tokenizer's encodings, see `_state`."""
    sets: OrderedDict[Hashable, tuple[int, Any]] = field(default_factory=OrderedDict)
    """Number of prompts and what is kept of them, the last used at the end."""


_STORES: WeakKeyDictionary[Any, _Store] = WeakKeyDictionary()


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Token ids of each text, as `prompting.encode` makes them."""
    store, key = _store(tokenizer), (special, tuple(texts))
    ends = [texts[0], texts[-1]] if texts else []
    if key in store.sets:
        known = store.sets[key][1]
        if tokenizer(ends, add_special_tokens=special)["input_ids"] == [known[0], known[-1]]:
            store.sets.move_to_end(key)
            found = [list(ids) for ids in known]
            if (look := events.WATCHED.get()) is not None:
                look(tokenizer, texts, found, special)
            return found
        store.sets.clear()
    found = prompting.encode(tokenizer, texts, special=special)
    if texts:
        _keep(store, key, len(texts), [list(ids) for ids in found])
    return found


def kept(tokenizer: Any, key: Hashable, prompts: int, make: Callable[[], Value]) -> Value:
    """What is computed from the key and the tokenizer alone, made once.

    Args:
        tokenizer: the tokenizer.
        key: everything else that the result depends on, token ids included.
        prompts: how many prompts it is about.
        make: computes it; the result must not be changed afterwards.
    """
    store = _store(tokenizer)
    if key not in store.sets:
        _keep(store, key, prompts, make())
    store.sets.move_to_end(key)
    found: Value = store.sets[key][1]
    return found


def forget() -> None:
    """Drop everything. For tests."""
    _STORES.clear()


def _keep(store: _Store, key: Hashable, prompts: int, value: Any) -> None:
    store.sets[key] = prompts, value
    while len(store.sets) > 1 and sum(count for count, _ in store.sets.values()) > MOST:
        store.sets.popitem(last=False)


def _store(tokenizer: Any) -> _Store:
    state, found = _state(tokenizer), _STORES.get(tokenizer)
    if found is None or found.state != state:
        found = _STORES[tokenizer] = _Store(state)
    return found


def _state(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [getattr(backend, name, None) for name in PARTS]
    return type(tokenizer), of_tokenizer(tokenizer), [None if each is None else each.__getstate__() for each in parts]
