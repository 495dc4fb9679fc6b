"""`docs/settings.md` is complete: every setting with its variable, type and default; every example loads."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import rota
from rota.cli.app import app
from rota.settings import PREFIX, Settings, load_settings
from tests.unit.test_docs_pages import DOCS, blocks, codes, page, section, table

SETTINGS = page("settings.md")
FIELDS = Settings.model_fields
EXAMPLES = [
    (path.name, block) for path in sorted(DOCS.glob("*.md")) for block in blocks(path.read_text("utf-8"), "toml")
]
INTERNAL = "ROTA_PARENT_PIPE"


@pytest.fixture(autouse=True)
def nobody_has_set_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def rows() -> dict[str, list[str]]:
    found = table(SETTINGS, "TOML", "environment", "type", "default", "effect")
    assert all(row[4] for row in found)
    return {codes(row[0])[0]: row[1:] for row in found}


def kind(field: FieldInfo) -> str:
    """A field's type and range as the page writes them."""
    annotation, bounds = field.annotation, {type(mark).__name__: mark for mark in field.metadata}
    text = str(annotation)
    if "Path" in text:
        return "path"
    if "Secret" in text:
        return "text, secret"
    if annotation is int:
        return f"whole number, {bounds['Ge'].ge} to {bounds['Le'].le}"
    if annotation is float:
        return f"seconds, over {bounds['Gt'].gt} to {bounds['Le'].le}"
    patterns = [mark.pattern for mark in field.metadata if getattr(mark, "pattern", None)]
    if patterns:
        *first, last = patterns[0].strip("^$()").split("|")
        return f"{', '.join(f'`{word}`' for word in first)} or `{last}`"
    assert "str" in text
    return "text"


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    assert not isinstance(value, SecretStr)
    return f"`{str(value).replace(str(Path.home()), '~')}`"


def test_every_setting_is_told_and_no_other() -> None:
    assert list(rows()) == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_told_with_its_variable_type_and_default(name: str) -> None:
    variable, type_, told_default, _ = rows()[name]
    assert codes(variable) == [f"{PREFIX}{name.upper()}"]
    assert type_ == kind(FIELDS[name])
    assert told_default == default(FIELDS[name])


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_taken_from_the_variable_that_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"port": "1", "workers": "3", "store_timeout": "1", "stop_timeout": "1"}
    given |= {"log_level": "debug", "log_format": "json", "webhook_allow": "10.0.0.0/8"}
    given |= {"public_url": "https://rota.example", "secret_key": "0123456789abcdef0123456789abcdef"}
    monkeypatch.setenv(codes(rows()[name][0])[0], given.get(name, "given"))
    value = getattr(load_settings(), name)
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    assert str(shown) == given.get(name, "given") or shown == float(given[name])


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[f"{at} {name}" for at, (name, _) in enumerate(EXAMPLES)])
def test_an_example_loads(name: str, example: str, tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    file.write_text(example, encoding="utf-8")
    load_settings(file)


def test_there_are_examples() -> None:
    assert [name for name, _ in EXAMPLES].count("settings.md") >= 2


def test_every_option_of_serve_is_told_and_no_other() -> None:
    command: Any = typer.main.get_command(app)
    options = {word for option in command.commands["serve"].params for word in option.opts if word.startswith("--")}
    assert set(codes(section(SETTINGS, "## Options of `rota serve`"))) == options - {"--help"}


def test_every_other_variable_is_told_and_no_other() -> None:
    read = set()
    for path in Path(inspect.getfile(rota)).parent.rglob("*.py"):
        read |= set(re.findall(r"""["'](ROTA_[A-Z_]+)["'\]]""", path.read_text(encoding="utf-8")))
    read -= {f"{PREFIX}{name.upper()}" for name in FIELDS} | {PREFIX, INTERNAL}
    told = {code for row in table(section(SETTINGS, "## Other variables"), "environment") for code in codes(row[0])}
    assert {name for name in told if name.startswith(PREFIX)} == read
    assert INTERNAL in SETTINGS
