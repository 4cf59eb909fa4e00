"""Removal of credentials from all messages, also those of libraries.

There are two steps. Every message is searched for the forms of credentials: the part before the `@` of an address, a
query's token, a header. And where an address is known (the tracker's, a proxy's), each of its credentials is removed
literally, in every form in which a library may write it: encoded, decoded, in base64, alone.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
SHORTEST = 3
"""In characters. Shorter strings are not removed, because they occur in every message."""
LONG = 6
"""In characters. Longer strings that are not letters alone are also removed inside longer words."""
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "HF_ENDPOINT")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "ROBUSTNESS_GATE_SIGNING_KEY",
    "ROBUSTNESS_GATE_SIGNING_PASSPHRASE",
)
"""Environment variables whose values are always removed."""
FORMS = (
    (re.compile(r"(?<=://)[^\s/?#\"'<>]*@"), ""),
    # No number after the colon: a password and not a port; it may contain characters that an address may not
    (re.compile(r"(?<=://)[^\s/?#:@\"'<>]*:(?!\d*(?:[/?#\s\"'<>)\],.;]|$))[^\s\"'<>]*@"), ""),
    (
        re.compile(r"(?i)([?&;][\w.%-]*(?:token|passw|pwd|secret|key|auth|sig|cred)[\w.%-]*=)[^&;\s\"'<>#]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)[^\s'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), HIDDEN),
)


def message(text: str, *addresses: str) -> str:
    """The text without credentials.

    Args:
        text: any message.
        addresses: URIs whose credentials may occur, in addition to those of the environment.
    """
    named = [os.environ.get(name, "") for name in (*ADDRESSES, *PROXIES, *map(str.lower, PROXIES))]
    known = {secret for address in (*addresses, *named) for secret in secrets_of(address)}
    known |= {value for name in SECRETS if len(value := os.environ.get(name, "").strip()) >= SHORTEST}
    for secret in sorted(known, key=len, reverse=True):
        if secret in text:
            edge = r"(?![A-Za-z0-9])" if len(secret) < LONG or secret.isalpha() else ""  # "bob" is part of many words
            before = edge.replace("(?!", "(?<!")
            text = re.sub(before + re.escape(secret) + edge, HIDDEN, text)
    for form, instead in FORMS:
        text = form.sub(instead, text)
    return text


def place(address: str) -> str:
    """Scheme, host, port and path of an address, without anything that could be a credential."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        return address
    rest = rest[len(_before_host(rest)) :]
    return scheme + slashes + re.split(r"[?#]", rest, maxsplit=1)[0]


def secrets_of(address: str) -> set[str]:
    """All credentials of an address, in each form in which a library may write them."""
    _, slashes, rest = address.partition("://")
    if not slashes:
        return set()
    before = _before_host(rest)
    who = before.removesuffix("@")
    user, _, password = who.partition(":")
    query = re.split(r"[?#]", rest[len(before) :], maxsplit=1)[1:]
    values = [pair.partition("=")[2] for part in query for pair in re.split(r"[&;#]", part)]
    found = {form for word in (who, user, password, *values) for form in (word, unquote(word))}
    found |= {form(word) for word in set(found) for form in (quote, quote_plus, lambda each: quote(each, safe=""))}
    found |= {form(word)[1:-1] for word in set(found) for form in (repr, json.dumps)}
    found |= {base64.b64encode(word.encode()).decode() for word in (who, unquote(who))}
    return {word for word in found if len(word) >= SHORTEST}


def _before_host(rest: str) -> str:
    """The part before the host, including `@`. A password may contain the characters that end it: then everything is
    removed.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or not ("@" in authority or re.search(r":(?!\d*$)", authority)):
        return ""
    return rest[: rest.rindex("@") + 1]


class _Clean(io.TextIOBase):
    """A stream that passes its lines on without credentials."""

    def __init__(self, onto: TextIO, clean: Callable[[str], str]) -> None:
        self._onto, self._clean, self._begun = onto, clean, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._onto.write(self._clean(line) + "\n")
        return len(text)

    def flush(self) -> None:
        self._onto.flush()

    def end(self) -> None:
        if self._begun:
            self._onto.write(self._clean(self._begun))
        self._begun = ""


@contextlib.contextmanager
def strangers_words(*addresses: str) -> Iterator[None]:
    """Inside the block all output, logs and warnings go to standard error, without credentials.

    Standard output is reserved for the verdict, so no library may print its server's address there.
    """

    def clean(text: str) -> str:
        return message(text, *addresses)

    usual = logging.getLogRecordFactory()

    def record(*arguments: Any, **more: Any) -> logging.LogRecord:
        made = usual(*arguments, **more)
        made.msg, made.args = clean(made.getMessage()), ()
        if made.exc_info:
            made.exc_text = clean("".join(traceback.format_exception(*made.exc_info)).rstrip())
            made.exc_info = None
        return made

    stream = _Clean(sys.stderr, clean)
    logging.setLogRecordFactory(record)
    try:
        with (
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(stream),
            warnings.catch_warnings(record=True) as warned,
        ):
            yield
    finally:
        logging.setLogRecordFactory(usual)
        for each in warned:
            stream.write(warnings.formatwarning(each.message, each.category, each.filename, each.lineno, each.line))
        stream.end()


def tell_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception like `sys.excepthook`, without credentials."""
    sys.stderr.write(message("".join(traceback.format_exception(kind, error, trace))))
