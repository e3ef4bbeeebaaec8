"""The explorer in a page: its script stands in the page itself.

A browser does not load a module from a disk, and the site is to work from there, too.
"""

from __future__ import annotations

from pathlib import Path

FRAGMENT = """\
<link rel="stylesheet" href="_static/explorer.css">
<div id="csbp-explorer"></div>
<script type="module">
{script}
mount(document.getElementById("csbp-explorer"));
</script>
"""


def explorer_fragment(script: Path) -> str:
    """HTML that shows the explorer where it stands.

    Args:
        script: an ES module without imports, with the function `mount(element)`.

    Raises ValueError for a module that would end the page's script too early.
    """
    module = script.read_text(encoding="utf-8")
    if "</script" in module:
        raise ValueError(f"{script.name} contains </script, which would end it within a page")
    return FRAGMENT.format(script=module)
