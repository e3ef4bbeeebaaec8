"""The published Example 1 with sliders: `explorer.js` on a page, and as a widget in JupyterLab."""

from .widget import Explorer

__all__ = ["Explorer"]
