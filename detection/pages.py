"""Pages that need nothing but themselves, made with Jinja2: everything is escaped, and what is missing is an error."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import jinja2

from detection.pictures import number


def page(template: str, filters: dict[str, Callable[..., Any]] | None = None, **given: Any) -> str:
    """The text of a template of `detection/templates`; `number` and `base64` are filters of every one."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("detection"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, base64=lambda content: base64.b64encode(content).decode())
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**given)
