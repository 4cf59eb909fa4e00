"""Decode token ids by the gate's own rules, to check that the model got the whole question.

A checkpoint has its own decoder, which is not trusted; here each id's piece of the vocabulary is decoded by the rules
of the known families, one after the other, and a text counts as received where one of them finds it. A piece may be
decoded by another family's rules, but no rule restores a word that was dropped.

    bytes    GPT-2's table of 256 printable characters: byte-level BPE
    spaced   U+2581 for a space, `<0x0A>` for a byte: SentencePiece, Metaspace, byte fallback
    joined   the same, where `##` begins a piece in the middle of a word: WordPiece
    ended    the same, where `</w>` ends a word's last piece: GPT-1 and CLIP

A tokenizer outside these families (one that numbers whole words, for example) decodes to nothing, so its questions
count as lost: they establish neither a breach nor compliance. Both sides are compared in Unicode's form NFKC without
white space, control and format characters, since ordinary tokenizers change these; letters count with their case,
unless the vocabulary has no upper-case letter at all. A permuted vocabulary is not detected here: `engine.tokenization`
compares with the original's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

GONE = "\N{REPLACEMENT CHARACTER}"
"""The character for a token that is not text: an unknown word, or a special token inside a question."""
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Piece(NamedTuple):
    """The vocabulary's entry of one id."""

    text: str
    whole: bool
    """Whether it is plain text (an added token) and not in the family's spelling."""


@dataclass(frozen=True)
class Read:
    """One prompt as the model got it: the ids, and its text under each family's rules (computed on first use)."""

    ids: Sequence[int]
    ways: Sequence[Callable[[], Mapping[int, bytes]]]
    uncased: Callable[[], bool]

    def holds(self, text: str) -> bool:
        """Whether the prompt contains a text, apart from white space."""
        wanted, ways = normal(text), [self._text(way()) for way in self.ways[:1]]
        if wanted in ways[0]:
            return True
        ways += [self._text(way()) for way in self.ways[1:]]
        if any(wanted in way for way in ways):
            return True
        return self.uncased() and any(normal(text.lower()) in way for way in ways)

    def _text(self, spelt: Mapping[int, bytes]) -> str:
        return normal(b"".join(spelt[each] for each in self.ids).decode("utf-8", "replace"))


def read(tokenizer: Any, encoded: Sequence[Sequence[int]]) -> list[Read]:
    """Each row of token ids as text. Ids outside the vocabulary, the unknown token and special tokens are GONE."""
    known = _pieces(tokenizer, sorted({each for ids in encoded for each in ids}))
    spaced = any("\u2581" in piece.text for piece in known.values())
    order = sorted((_bytes, _spaced, _joined, _ended), key=lambda way: (way is _bytes) == spaced)  # likeliest first
    ways = [cache(partial(_spelt, known, way)) for way in order]
    uncased = cache(partial(_is_uncased, tokenizer))
    return [Read(ids, ways, uncased) for ids in encoded]


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """The special tokens by the text that is encoded as them anywhere; without the token for unknown words."""
    unknown = getattr(tokenizer, "unk_token", None)
    added = tokenizer.added_tokens_decoder.items()
    return {each.content: int(number) for number, each in added if each.special and each.content not in ("", unknown)}


def controls_in(text: str, controls: Mapping[str, int]) -> frozenset[int]:
    """Which of `control_tokens` a text contains, by id: the model gets a control token in its place."""
    return frozenset(number for word, number in controls.items() if word in text)


def normal(text: str) -> str:
    """NFKC without white space, control and format characters.

    Composed once more at the end, because removed spaces may have separated characters that combine.
    """
    bare = "".join(unicodedata.normalize("NFKC", text).split())
    if not bare.isprintable():  # it has control or format characters, or unassigned ones, which stay
        bare = "".join(each for each in bare if unicodedata.category(each) not in ("Cc", "Cf", "Zl", "Zp", "Zs"))
    return unicodedata.normalize("NFKC", bare)


def _pieces(tokenizer: Any, ids: Sequence[int]) -> dict[int, Piece]:
    added = {int(number): each for number, each in tokenizer.added_tokens_decoder.items()}
    unknown = getattr(tokenizer, "unk_token", None)
    found = {}
    for number, piece in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        own = added.get(number)
        if piece is None or piece == unknown or (own is not None and own.special):
            found[number] = Piece(GONE, whole=True)
        else:
            found[number] = Piece(str(piece), whole=own is not None)
    return found


def _spelt(known: Mapping[int, Piece], way: Callable[[str], bytes]) -> dict[int, bytes]:
    return {
        number: piece.text.encode("utf-8", "replace") if piece.whole else way(piece.text)
        for number, piece in known.items()
    }


def _bytes(piece: str) -> bytes:
    table = byte_of()
    known = all(each in table for each in piece)
    return bytes(table[each] for each in piece) if known else piece.encode("utf-8", "replace")


def _spaced(piece: str) -> bytes:
    if byte := BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("\u2581", " ").encode("utf-8", "replace")


def _joined(piece: str) -> bytes:
    return _spaced(piece.removeprefix("##") or piece)


def _ended(piece: str) -> bytes:
    return _spaced(piece.removesuffix("</w>"))


@cache
def byte_of() -> dict[str, int]:
    """GPT-2's table: a character for each byte, itself where it can be printed (openai/gpt-2, `bytes_to_unicode`)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [each for each in range(256) if each not in printed]
    return {chr(each): each for each in printed} | {chr(256 + place): each for place, each in enumerate(others)}


def _is_uncased(tokenizer: Any) -> bool:
    """Whether no ordinary piece has an upper-case letter: such a model uses lower case alone."""
    added = set(tokenizer.get_added_vocab())
    words = (piece for piece in tokenizer.get_vocab() if piece not in added and BYTE.fullmatch(piece) is None)
    return all(piece == piece.lower() for piece in words)
