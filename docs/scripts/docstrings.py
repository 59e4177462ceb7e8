"""For the API pages: docstrings as they stand in the source, as the page's parser wants them.

A griffe extension, named in mkdocs.yml. Examples (`>>> …`) become blocks of code, sections that
follow each other without an empty line get one, and "Source: …" becomes a paragraph of its own.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_REMARK = re.compile(r"^(Source|Input|Output|Input and output):\s*")


class Docstrings(Extension):
    """Rewrites each docstring that is read."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring for the page's parser."""
    lines: list[str] = []
    example = False
    for line in text.splitlines():
        starts = not example and line.lstrip().startswith(">>>")
        if starts or _SECTION.match(line) or _REMARK.match(line):
            lines.append("")
        if starts:
            lines.append("```pycon")
            example = True
        elif example and not line.strip():
            lines.append("```")
            example = False
        lines.append(line if example else _REMARK.sub(r"**\1:** ", line))
    return "\n".join([*lines, "```"] if example else lines)
