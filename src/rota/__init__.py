"""rota keeps the duty roster of a fleet of bots.

A bot's author imports `Bot` and `Job` from here. They are loaded when first asked for, so that `import rota`
costs nothing and the server's own modules do not load the SDK. This module must never load anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Bot", "Job", "__version__"]

if TYPE_CHECKING:
    from rota.sdk import Bot as Bot
    from rota.sdk import Job as Job

    __version__: str
else:

    def __getattr__(name: str) -> object:
        if name in {"Bot", "Job"}:
            from rota import sdk  # noqa: PLC0415 - see the module's docstring

            return getattr(sdk, name)
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 - see the module's docstring

            return version("rota")
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
