"""`docs/operations.md` is complete: every finding of `rota check`, every error of a start, every exit code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import rota
from rota.cli import app, serve
from rota.cli.signals import INTERRUPTED
from rota.embedded.child import MOST_LOG_BYTES
from rota.embedded.place import FALLBACK, MOST_SOCKET_PATH, STORE_USERS
from rota.ledger.connection import OLDEST, POOL_SIZE
from rota.live.scripts import CONNECTIONS, OLDEST_REDIS, OLDEST_VALKEY
from rota.steward import inspect as duty
from rota.web.app import healthz
from tests.unit.test_docs_pages import blocks, codes, page, section, table

PACKAGE = Path(rota.__file__).parent
STARTS = (
    "settings.py",
    "cli/serve.py",
    "cli/serving.py",
    "cli/supervisor.py",
    "embedded/*.py",
    "ledger/**/*.py",
    "live/*.py",
    "steward/*.py",
    "web/**/*.py",
)
ERRORS = {"RotaError", "SettingsError", "StoreError"}
OPERATIONS = page("operations.md")


def text_of(node: ast.expr) -> str | None:
    """A text of the source; whatever is only known while running is `…`."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    return None


def errors_of_a_start() -> set[str]:
    found = set()
    for path in {path for pattern in STARTS for path in PACKAGE.glob(pattern)}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {re.sub("…+", "…", " ".join(text.split())) for text in raised_in(node)}
    return found


def raised_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The messages of all errors that a function raises, or hands to the one that does."""
    for block in ast.walk(function):
        told: dict[str, set[str]] = {}
        for statement in ast.iter_child_nodes(block):
            for node in ast.walk(statement):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    told.setdefault(node.targets[0].id, set()).add(text_of(node.value) or "")
            if isinstance(statement, ast.Raise) and isinstance(statement.exc, ast.Call):
                call = statement.exc
                if isinstance(call.func, ast.Name) and call.func.id in ERRORS:
                    message = call.args[0]
                    said = told.get(message.id, {""}) if isinstance(message, ast.Name) else {text_of(message) or ""}
                    yield from said - {""}
            elif isinstance(statement, ast.Return) and function.name == "_reason" and statement.value:
                yield text_of(statement.value) or ""


def kinds() -> set[str]:
    """First arguments of `Finding(…)` in the duty's source."""
    tree = ast.parse(Path(duty.__file__).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {text_of(call.args[0]) or "" for call in calls if call.func.id == "Finding"}  # type: ignore[attr-defined]


def rows(title: str, *columns: str) -> list[list[str]]:
    found = table(section(OPERATIONS, title), *columns)
    assert all(all(row) for row in found)
    return found


def test_every_finding_is_told_and_no_other() -> None:
    assert sorted(codes(row[0])[0] for row in rows("## rota check", "kind", "means", "do")) == sorted(kinds())


def test_the_numbers_of_the_check_are_those_of_the_duty() -> None:
    text = section(OPERATIONS, "## rota check")
    assert f"At most {duty.MOST_FINDINGS} findings" in text
    assert f"the first {duty.WAITING_LOOKED_AT:,} waiting" in text
    assert f"heard for {duty.PULSE_TOO_OLD:.0f} s" in text
    assert f"at work for {duty.STEWARD_TOO_OLD:.0f} s" in text
    assert duty.WAITING_TOO_LONG == 2
    assert "more than two ttl" in text


def test_every_error_of_a_start_is_told_and_no_other() -> None:
    told = [codes(row[0])[0] for row in rows("## Errors at the start", "message", "what to do")]
    raised = {message.replace("`rota serve` sets both", "…") for message in errors_of_a_start()}
    assert sorted(told) == sorted(raised)


def test_every_exit_code_is_told_and_no_other() -> None:
    told = {int(row[0]) for row in rows("## Exit codes", "code", "of", "meaning")}
    documented = {int(code) for code in re.findall(r"\b\d+\b", app.run.__doc__ or "")}
    assert told == documented
    assert INTERRUPTED in told


def test_the_oldest_stores_are_those_that_are_taken() -> None:
    text = section(OPERATIONS, "## Stores of your own")
    valkey, redis = (".".join(map(str, oldest)) for oldest in (OLDEST_VALKEY, OLDEST_REDIS))
    assert f"**Valkey ≥ {valkey} or Redis ≥ {redis}**" in text
    assert f"**PostgreSQL ≥ {OLDEST}**" in text
    assert f"up to {CONNECTIONS} connections" in text
    assert f"{POOL_SIZE} for each web worker, {2 * POOL_SIZE + 1} for each steward" in text


def test_the_unit_runs_a_command_that_there_is() -> None:
    (unit,) = blocks(section(OPERATIONS, "## systemd"), "ini")
    (options,) = re.findall(r"^ExecStart=\S+/rota serve (.*)$", unit, re.MULTILINE)
    parameters = {f"--{name.replace('_', '-')}" for name in inspect.signature(serve.serve).parameters}
    assert set(re.findall(r"--[a-z-]+", options)) <= parameters
    (variables,) = re.findall(r"^Environment=(.*)$", unit, re.MULTILINE)
    for variable in variables.split():
        assert f"`{variable.partition('=')[0]}`" in page("settings.md")
    assert "KillMode=mixed" in unit


def log_lines() -> set[str]:
    """What is logged as a warning or worse, and that bots died."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if "sdk" not in path.parts and "simulator" not in path.parts:
            text = path.read_text(encoding="utf-8")
            found |= set(re.findall(r'\blog\.(?:warning|error|exception)\(\s*"([^"]+)"', text))
    return found | {"bots died"}


def test_every_line_that_is_worth_an_alert_is_logged_somewhere() -> None:
    told = {code for row in rows("## Logs", "line", "meaning") for code in codes(row[0])} - {"detail"}
    assert told <= log_lines()


def made_in_the_data_directory() -> set[str]:
    """Files and folders that the package makes there, by the words of its source."""
    found = set()
    for path in [*(PACKAGE / "embedded").glob("*.py"), *(PACKAGE / "cli").glob("serv*.py")]:
        text = path.read_text(encoding="utf-8")
        constants = dict(re.findall(r'^([A-Z_]+) = "([\w.-]+)"$', text, re.MULTILINE))
        for literal, constant in re.findall(r'(?:data_dir|home) / (?:"([\w.-]+)"|([A-Z_]+)\b)', text):
            found.add(literal or constants[constant])
        found |= {f"{name}/" for name in re.findall(r'\.folder\("([\w.-]+)"\)', text)}
    return {name for name in found if f"{name}/" not in found}


def files_told() -> set[str]:
    return {code for row in rows("## The data directory", "name", "what it is") for code in codes(row[0])}


def test_everything_in_the_data_directory_is_told_and_nothing_else() -> None:
    assert files_told() == made_in_the_data_directory()


def test_the_numbers_of_the_data_directory_are_those_of_the_code() -> None:
    assert f"longer than {MOST_SOCKET_PATH} characters" in OPERATIONS
    assert f"above {MOST_LOG_BYTES // 1_000_000} MB a log is removed" in OPERATIONS


def test_the_users_of_the_stores_are_told() -> None:
    text = section(OPERATIONS, "## Running as root")
    assert all(f"`{user}`" in text for user in STORE_USERS)
    assert f"`{FALLBACK}`" in text


def test_the_address_for_load_balancers_is_there() -> None:
    assert "GET /healthz" in OPERATIONS
    assert "/healthz" in (PACKAGE / "web" / "app.py").read_text(encoding="utf-8")
    assert healthz.__name__ == "healthz"
