"""What mkdocstrings is told about docstrings: a section `Example:` is one of examples."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Its parser knows the plural alone, and would show the code of a singular as a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
