"""Reports read back: the tables of a Markdown text and of a page, for comparison with what was put in."""

import csv
import io
import re
from html.parser import HTMLParser


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def markdown_tables(text: str) -> list[list[dict[str, str]]]:
    """Each table as its rows, by heading, with every escaped sign as itself."""
    tables = []
    for block in re.split(r"\n\n+", text):
        lines = block.strip().splitlines()
        if len(lines) >= 2 and lines[0].startswith("|") and set(lines[1]) <= set("|:-"):
            heads, *rows = (
                [_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line != lines[1]
            )
            assert all(len(row) == len(heads) for row in rows), "a cell has made a column of its own"
            tables.append([dict(zip(heads, row)) for row in rows])
    return tables


def _plain(cell: str) -> str:
    return re.sub(r"\\(.)", r"\1", cell.strip())


class _Tables(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tables, self.cell = {}, None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "table":
            self.rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def html_tables(page: str) -> dict[str, list[dict[str, str]]]:
    """By id, each table as its rows by heading."""
    parser = _Tables()
    parser.feed(page)
    return {name: [dict(zip(rows[0], row, strict=True)) for row in rows[1:]] for name, rows in parser.tables.items()}
