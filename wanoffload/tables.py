"""Tables for people: as text in a terminal, as HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table: the first column to the left, the others to the right, a rule under the head.

    A row of one cell spans the table (a heading inside it); an empty row is a rule.
    """
    wide = [row for row in rows if len(row) > 1]
    widths = [max(len(row[i]) for row in (head, *wide)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(head), rule, *(line(row) if len(row) > 1 else row[0] if row else rule for row in rows)])


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], red: Sequence[int] = ()) -> str:
    """The same table for a notebook; red: the rows that are wrong, by number."""

    def cells(row: Sequence[str], tag: str) -> str:
        if len(row) == 1:
            return f'<{tag} colspan="{len(head)}" style="text-align:left">{html.escape(row[0])}</{tag}>'
        return "".join(
            f'<{tag} style="text-align:{"left" if i == 0 else "right"}">{html.escape(cell)}</{tag}>'
            for i, cell in enumerate(row)
        )

    colours = {i: ' style="color:red"' for i in red}
    body = "".join(f"<tr{colours.get(i, '')}>{cells(row, 'td')}</tr>" for i, row in enumerate(rows) if row)
    return (
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )
