"""Export difficult content, and read it with other programs: `./dev readers`.

LibreOffice, jq, pandoc and cmark-gfm are installed with apt-get, pandas and DuckDB into a temporary folder from PyPI.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatkeep.exports.formats import FORMATS
from tests.imports.hard import Hard, pairs, same_texts
from tests.imports.stores import Store
from tests.services import debian

PROGRAMS = {"soffice": "libreoffice-calc-nogui", "jq": "jq", "pandoc": "pandoc", "cmark-gfm": "cmark-gfm"}
PYTHON = ("pandas==3.1.1", "duckdb==2.0.1")
SEPARATORS = {",": 44, ";": 59, "tab": 9}
PANDAS = """
import json, pandas
table = pandas.read_csv("export.csv", dtype=str, keep_default_na=False)
lines = pandas.read_json("export.ndjson", lines=True, dtype=False)
said = lines[lines["object"] == "message"]
print(json.dumps({"csv": list(table["content"]), "ndjson": list(said["content"])}))
"""
DUCKDB = """
import duckdb, json
columns = "columns = {object: 'VARCHAR', content: 'VARCHAR'}, format = 'newline_delimited'"
large = "maximum_object_size = 100000000"
table = duckdb.sql("SELECT content FROM read_csv('export.csv', all_varchar = true, max_line_size = 10000000)")
said = f"SELECT content FROM read_json('export.ndjson', {columns}, {large}) WHERE object = 'message'"
document = f"SELECT len(conversations) FROM read_json('export.json', {large})"
found = {"csv": table.fetchall(), "ndjson": duckdb.sql(said).fetchall()}
count = duckdb.sql(document).fetchall()[0][0]
print(json.dumps({name: [row[0] for row in rows] for name, rows in found.items()} | {"json": count}))
"""


def main() -> int:
    """Run all readers. Return 0 if each finds the same content."""
    if missing := [package for program, package in PROGRAMS.items() if not shutil.which(program)]:
        sys.stdout.write(f"{debian.install(*missing)}\n")
    hard = Hard()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store(f"sqlite:///{folder / 'store.db'}") as store:
            store.put(*hard.stored)
            for kind in FORMATS:
                (folder / f"export.{kind}").write_bytes(store.give(kind))
        venv.create(folder / "venv", with_pip=True)
        run(folder, str(folder / "venv/bin/pip"), "install", "--quiet", *PYTHON)
        return max([reader(folder, hard) for reader in READERS])


def run(folder: Path, *command: str) -> str:
    """Return a program's output."""
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def tell(reader: str, *differences: object) -> int:
    """Report a reader. Return 1 if it found a difference."""
    found = [difference for difference in differences if difference]
    sys.stdout.write(f"{reader}: {found or 'ok'}\n")
    sys.stdout.flush()
    return int(bool(found))


def differs(what: str, found: Any, expected: Any) -> str:
    """Describe a differing count."""
    return "" if found == expected else f"{what}: {found}, not {expected}"


def libreoffice(folder: Path, hard: Hard) -> int:
    """Open the csv with each separator: no cell is a formula, and the right separator gives all rows."""
    status = 0
    for name, code in SEPARATORS.items():
        run(
            folder, "soffice", f"-env:UserInstallation={(folder / 'office').as_uri()}", "--headless",
            f"--infilter=CSV:{code},34,76,1,,0,false,true", "--convert-to", "fods", "export.csv",
        )  # fmt: skip
        sheet = (folder / "export.fods").read_text(encoding="utf-8")
        formulas = re.findall(r'table:formula="([^"]*)"', sheet)
        rows = sheet.count("<table:table-row") - sheet.count('table:number-rows-repeated="10')
        lost = differs("rows", rows, len(hard.texts) + 1) if name == "," else ""
        status |= tell(f"LibreOffice, {name}", formulas, lost)
    return status


def pandas(folder: Path, hard: Hard) -> int:
    return read_by_python(folder, hard, "pandas", PANDAS)


def duckdb(folder: Path, hard: Hard) -> int:
    return read_by_python(folder, hard, "DuckDB", DUCKDB)


def read_by_python(folder: Path, hard: Hard, name: str, script: str) -> int:
    """Compare every text that a script reads."""
    found = json.loads(run(folder, str(folder / "venv/bin/python"), "-c", script))
    return tell(
        name,
        "" if same_texts(found["csv"], hard.texts) else "other texts in csv",
        "" if found["ndjson"] == hard.texts else "other texts in ndjson",
        differs("conversations in json", found.get("json", len(hard.stored)), len(hard.stored)),
    )


def jq(folder: Path, hard: Hard) -> int:
    said = run(folder, "jq", "-c", 'select(.object == "message").content', "export.ndjson").split("\n")[:-1]
    inner = run(folder, "jq", "-c", ".conversations[].messages[].content", "export.json").split("\n")[:-1]
    lines = run(folder, "jq", "-c", ".", "export.openai").split("\n")[:-1]
    return tell(
        "jq",
        "" if [json.loads(line) for line in said] == hard.texts else "other texts in ndjson",
        "" if inner == said else "other texts in json",
        "" if pairs(lines) == hard.pairs else "other questions and answers",
    )


def pandoc(folder: Path, hard: Hard) -> int:
    found: list[int] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend([node["c"][0]] if node.get("t") == "Header" else [])
            node = list(node.values())
        for one in node if isinstance(node, list) else []:
            walk(one)

    walk(json.loads(run(folder, "pandoc", "-f", "gfm", "-t", "json", "export.md")))
    return told_headings("pandoc", found, hard)


def cmark(folder: Path, hard: Hard) -> int:
    tree = run(folder, "cmark-gfm", "-e", "table", "-e", "autolink", "-e", "footnotes", "-t", "xml", "export.md")
    return told_headings("cmark-gfm", [int(level) for level in re.findall(r'<heading level="(\d)"', tree)], hard)


def told_headings(name: str, levels: list[int], hard: Hard) -> int:
    return tell(
        name,
        differs("conversations", levels.count(1), len(hard.stored)),
        differs("messages", levels.count(2), hard.headings),
    )


READERS: tuple[Callable[[Path, Hard], int], ...] = (libreoffice, pandas, duckdb, jq, pandoc, cmark)


if __name__ == "__main__":
    sys.exit(main())
