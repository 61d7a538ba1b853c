"""Links from a page of source code back to the reference, each to where its name is documented.

Sphinx's viewcode takes all names of a module to be documented under one prefix; ours are under the
public one (`crossbar.Tally`) or their module's (`crossbar.tally.Count`).
"""

import re
from typing import Any

from sphinx.application import Sphinx

BACK = re.compile(r'(<a class="viewcode-back" href=")[^"#]*#([^"]+)(">)')


def mended(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sets the links of a page of source code right."""
    if not page.startswith("_modules/") or "body" not in context:
        return
    parts = page.split("/")[1:]
    prefixes = [".".join(parts[:k]) for k in range(len(parts), 0, -1)]
    known = app.env.get_domain("py").objects  # type: ignore[attr-defined]

    def link(found: re.Match[str]) -> str:
        name = found[2]
        bare = next(name[len(p) + 1 :] for p in prefixes if name.startswith(p + "."))
        at = next((f"{p}.{bare}" for p in prefixes if f"{p}.{bare}" in known), None)
        if at is None:
            return found[0]
        where = app.builder.get_relative_uri(page, known[at].docname)
        return f"{found[1]}{where}#{known[at].node_id}{found[3]}"

    context["body"] = BACK.sub(link, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", mended)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
