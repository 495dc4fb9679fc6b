"""The files that pages need: style, script, marks. Browsers keep them for good: their address names their content."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from rota.web.pages.rendering import STATIC

_FOR_GOOD = "public, max-age=31536000, immutable"
_SHORT = "public, max-age=300"


class VersionedFiles(StaticFiles):
    """Static files; an address with `?v=` never changes its content."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file with its cache headers."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = "v" in parse_qs(scope["query_string"].decode("latin-1"))
        response.headers["cache-control"] = _FOR_GOOD if versioned else _SHORT
        response.headers["x-content-type-options"] = "nosniff"
        return response


static_app = VersionedFiles(directory=STATIC)
