"""Writes docs/ledger.md from the comments in `rota.ledger.tables`: `python tools/ledger_docs.py`."""

from __future__ import annotations

from pathlib import Path

from rota.ledger.tables import metadata

HEAD = """# The ledger's tables

What must be kept stands in PostgreSQL. The one description of the schema is `src/rota/ledger/tables.py`, from whose
comments this page is written (`python tools/ledger_docs.py`); Alembic's migrations lead to just that schema.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for table in sorted(metadata.sorted_tables, key=lambda item: item.name):
        parts.append(f"\n## {table.name}\n\n{table.comment}\n\n| column | type | |\n| --- | --- | --- |\n")
        for column in table.columns:
            comment = (column.comment or "").replace("|", "\\|")
            parts.append(f"| `{column.name}` | {str(column.type).lower()} | {comment} |\n")
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "ledger.md").write_text(text(), encoding="utf-8")
