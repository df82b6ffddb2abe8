"""What building the site needs beside MkDocs: equations as MathML, which browsers draw without a script, and
names in docstrings."""

import re

from latex2mathml.converter import convert

_ROLE = re.compile(r":(?:class|func|meth|mod):(<code>)~?(?:\w+\.)*\.?(\w+</code>)")  # Sphinx's, in docstrings


def on_config(config):
    """Fenced ``math`` blocks, as GitHub has them, are equations."""
    fence = {"name": "math", "class": "math", "format": mathml}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_page_content(html: str, **kwargs) -> str:
    """Docstrings name other parts by their last word."""
    return _ROLE.sub(r"\1\2", html)


def mathml(source: str, language: str, css_class: str, options: dict, md, **kwargs) -> str:
    """A formula for each line."""
    lines = filter(None, map(str.strip, source.splitlines()))
    return "".join(f'<div class="{css_class}">{convert(line, display="block")}</div>' for line in lines)
