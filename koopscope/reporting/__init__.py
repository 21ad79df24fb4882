"""One self-contained page of HTML about a fit: figures by Bokeh, words by Jinja2, no network.

``page`` puts it together, ``points`` takes the numbers out of results, ``figures`` draws them. May import
everything; needs the extra ``report``.
"""

from __future__ import annotations

from koopscope.reporting.page import report as report

__all__ = ["report"]
