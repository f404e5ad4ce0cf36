"""The table that ``values.append`` looks for: the block of filled cells around the last row of a range."""

from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.ranges import Bounds


def table_at_end(tab: Tab, bounds: Bounds) -> Bounds | None:
    """The block of cells that the last filled row of a range belongs to; None where nothing is filled.

    Known: rows go below it, beginning in its first column, not in the range's. Assumed: how it is found.
    """
    for row in range(min(bounds.end_row, len(tab.rows)) - 1, bounds.start_row - 1, -1):
        for column in range(bounds.start_column, bounds.end_column):
            if _filled(tab, row, column):
                return _grown(tab, Bounds(row, row + 1, column, column + 1))
            if column >= len(tab.row(row)):
                break
    return None


def _grown(tab: Tab, block: Bounds) -> Bounds:
    """The block with all filled neighbours, corners included."""
    top, bottom, left, right = block.start_row, block.end_row, block.start_column, block.end_column
    while True:
        before = (top, bottom, left, right)
        while top > 0 and _any(tab, range(top - 1, top), range(left - 1, right + 1)):
            top -= 1
        while _any(tab, range(bottom, bottom + 1), range(left - 1, right + 1)):
            bottom += 1
        while left > 0 and _any(tab, range(top - 1, bottom + 1), range(left - 1, left)):
            left -= 1
        while _any(tab, range(top - 1, bottom + 1), range(right, right + 1)):
            right += 1
        if (top, bottom, left, right) == before:
            return Bounds(top, bottom, left, right)


def _any(tab: Tab, rows: range, columns: range) -> bool:
    return any(_filled(tab, row, column) for row in rows for column in columns if row >= 0 and column >= 0)


def _filled(tab: Tab, row: int, column: int) -> bool:
    cell = tab.cell(row, column)
    return cell is not None and cell.value is not None
