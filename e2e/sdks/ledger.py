"""Reads what Salon charged from the database that it has closed, and prints it as JSON."""

import json
import pathlib
import sqlite3
import sys

[file] = pathlib.Path(sys.argv[1]).glob("*.db")
database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
database.row_factory = sqlite3.Row
entries = """
    SELECT call_id, upstream_model AS model, input + cache_read AS input, output + reasoning AS output, micros, estimated, suspect
    FROM entries
"""
rows = {
    "calls": database.execute("SELECT id, state, model FROM calls"),
    "attempts": database.execute("SELECT call_id, state, model FROM attempts"),
    "entries": database.execute(entries),
}
json.dump({name: [dict(row) for row in found] for name, found in rows.items()}, sys.stdout)
