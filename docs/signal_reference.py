"""A Sphinx directive that describes every named signal from the signal itself, so that none is missing."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from bzz import signals
from bzz.dispatcher import Signal

__all__ = ["NamedSignals", "setup"]


class NamedSignals(SphinxDirective):
    """``.. named-signals:: pre_``: the signals whose names begin like that, each with its payload."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText and let Sphinx read it."""
        chosen = [each for each in signals.ALL if each.name.startswith(self.arguments[0])]
        if not chosen:
            raise self.error(f"no signal begins with {self.arguments[0]}")
        return self.parse_text_to_nodes("\n".join(described(each) for each in chosen))


def described(signal: Signal) -> str:
    """Write one signal: when it is sent, by whom, what raising does, what it carries."""
    lines = (signal.doc or "").splitlines()
    if signal.payload:
        lines += [
            "",
            *(f":{key.replace('*', chr(92) + '*')}: {text}" for key, text in signal.payload.items()),
        ]
    body = "\n".join(f"   {line}".rstrip() for line in lines)
    return f".. py:data:: bzz.signals.{signal.name}\n\n{body}\n"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("named-signals", NamedSignals)
    return {"version": "1", "parallel_read_safe": True}
