"""All settings of a rota server: read once from `ROTA_*` and an optional `rota.toml`, then passed on, never global.

The environment wins over the file. `docs/settings.md` lists every field; a test compares the two.
"""

from __future__ import annotations

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from platformdirs import user_data_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from rota.errors import SettingsError

PREFIX = "ROTA_"


KEY_CHARACTERS = 32
"""A signing key that is shorter could be guessed."""


def _signing_keys(value: SecretStr) -> SecretStr:
    keys = [key.strip() for key in value.get_secret_value().split(",")]
    if any(len(key) < KEY_CHARACTERS for key in keys):
        msg = f"each key needs {KEY_CHARACTERS} characters at least, such as `openssl rand -hex 32` gives"
        raise ValueError(msg)
    return SecretStr(",".join(keys))


def _networks(value: str) -> str:
    for part in value.split(","):
        if part.strip():
            ip_network(part.strip())  # its error names the part, and what is wrong with it
    return value


class Settings(BaseModel):
    """One server's settings. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("rota"),
        description="where the built-in stores keep their files",
    )
    redis_url: SecretStr | None = Field(
        default=None, description="a Redis ≥ 7.0 or Valkey ≥ 7.2 instead of the built-in one, `redis://…`"
    )
    database_url: SecretStr | None = Field(
        default=None, description="a PostgreSQL ≥ 14 instead of the built-in one, `postgresql://…`"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=7682, description="port to listen on; 0 takes a free one"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="web worker processes")
    public_url: Annotated[str, Field(pattern="^https?://[^/]")] | None = Field(
        default=None, description="the address that people reach rota at, where a proxy stands before it"
    )
    ssl_certfile: Path | None = Field(default=None, description="serve TLS with this certificate (PEM)")
    ssl_keyfile: Path | None = Field(default=None, description="private key of the certificate (PEM)")
    secret_key: Annotated[SecretStr, AfterValidator(_signing_keys)] | None = Field(
        default=None,
        description="signs leases and sessions; several, with commas between them, to change it: the first one signs, "
        "the others are still believed. Without it one is made and kept in the ledger",
    )
    webhook_allow: Annotated[str, AfterValidator(_networks)] | None = Field(
        default=None,
        description="networks that webhooks may reach although they are private, and without TLS: `10.20.0.0/16, ::1`",
    )
    store_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5, description="longest wait for an answer of Redis or PostgreSQL"
    )
    stop_timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        default=8, description="longest wait for the end of everything on Ctrl-C or SIGTERM"
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = Field(default="text", description="text or json")


def load_settings(path: Path | None = None, **overrides: object) -> Settings:
    """Settings from a TOML file, the environment above it, and `overrides` above both.

    The file is `path`, else `ROTA_CONFIG`, else `./rota.toml` if there is one. `overrides` are the command line's; None
    counts as absent.

    Raises:
        SettingsError: a file that cannot be read, an unknown name or a value out of range, in one line.
    """
    values = {
        **_from_file(path),
        **_from_environment(),
        **{k: v for k, v in overrides.items() if v is not None},
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in wrong["loc"])
        msg = f"setting {name} ({PREFIX}{name.upper()}): {wrong['msg']}; see docs/settings.md"
        raise SettingsError(msg) from None


def _from_file(path: Path | None) -> dict[str, object]:
    named = path or (Path(os.environ["ROTA_CONFIG"]) if os.environ.get("ROTA_CONFIG") else None)
    file = named or Path("rota.toml")
    if named is None and not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"cannot read the settings file {file}: {error}"
        raise SettingsError(msg) from None


def _from_environment() -> dict[str, object]:
    names = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    return {name: os.environ[variable] for variable, name in names.items() if os.environ.get(variable)}
