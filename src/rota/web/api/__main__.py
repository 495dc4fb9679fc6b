"""Prints the OpenAPI description, as `openapi.json` in the repository holds it."""

from __future__ import annotations

import json
import sys
from functools import cache

from rota.settings import Settings
from rota.web.app import create_app


@cache
def description() -> str:
    """The description as text; needs no stores."""
    app = create_app(Settings(), "redis://unused", "postgresql://unused")
    return json.dumps(app.fastapi.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(description())
