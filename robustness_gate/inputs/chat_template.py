"""Chat templates: small programs in Jinja that come with a tokenizer.

To render one is to run an untrusted program. transformers does so in Jinja's immutable sandbox, which refuses access to
Python's own attributes and changes of its arguments; no other renderer is used here. A template that openly tries to
leave the sandbox, or cannot be parsed, is refused before anything is loaded; the sandbox handles names that are built
at run time. Neither stops a template that only takes long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from robustness_gate.records.encode import Json

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.parser import Parser

MAX_CHARACTERS = 1_000_000


def texts_in(config: Json) -> Iterator[str]:
    """The templates in a tokenizer's or processor's config: one text, several texts by name, or records with
    `template`.
    """
    found = config.get("chat_template") if isinstance(config, dict) else None
    several = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
    for each in several:
        text = each.get("template") if isinstance(each, dict) else each
        if isinstance(text, str):
            yield text


def fault(text: str) -> str:
    """Why a template is refused, as the end of a sentence; empty if it is accepted."""
    from jinja2 import TemplateSyntaxError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """transformers' own tag around the assistant's text; it does not change the text."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja's own extensions have it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    if len(text) > MAX_CHARACTERS:
        return f"has more than {MAX_CHARACTERS:,} characters"
    try:
        tree = ImmutableSandboxedEnvironment(extensions=[Generation, "jinja2.ext.loopcontrols"]).parse(text)
        reached = sorted(set(_reached(tree)))
    except TemplateSyntaxError as error:
        return f"cannot be read: line {error.lineno}: {error.message}"
    except RecursionError:
        return "is nested too deeply"
    except (ValueError, OverflowError):
        return "holds a number that is too long to read"
    return f"reaches for {reached[0]}, which a conversation does not have" if reached else ""


def _reached(tree: nodes.Template) -> Iterator[str]:
    """Python's own attributes and other templates that the template uses, in any of Jinja's notations."""
    from jinja2 import nodes

    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield f"another template ({type(node).__name__.lower()})"
    names: list[Any] = [node.attr for node in tree.find_all(nodes.Getattr)]
    names += [node.arg.value for node in tree.find_all(nodes.Getitem) if isinstance(node.arg, nodes.Const)]
    for called in tree.find_all(nodes.Filter):
        if called.name in ("attr", "map", "selectattr", "rejectattr", "groupby", "sort", "sum", "unique"):
            names += [each.value for each in called.args if isinstance(each, nodes.Const)]
            names += [each.value.value for each in called.kwargs if isinstance(each.value, nodes.Const)]
    yield from (repr(part) for name in names if isinstance(name, str) for part in name.split(".") if part[:2] == "__")
