"""The site: python -m sphinx -W -b html docs OUT, with the extra `docs`; tutorials are run as it builds."""

from __future__ import annotations

import koopscope

project = "koopscope"
version = release = koopscope.__version__
extensions = ["myst_nb"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"koopscope {version}"
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 60
nb_execution_in_temp = True
nb_merge_streams = True
