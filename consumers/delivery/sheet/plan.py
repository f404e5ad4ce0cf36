"""The plan: where in a tab the rows will stand, decided from what the tab holds right now."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.delivery.sheet.book import MAX_COLUMNS, Book, Cell, Row, Tab
from consumers.delivery.sheet.columns import Headings, match_columns
from consumers.delivery.sheet.rows import Column
from consumers.errors import Permanent
from events.manifest import GoogleSheetDestination
from events.results import FailureCode

# Google Drive help, "Files you can store in Google Drive".
MAX_CELLS = 10_000_000
# A header stands among the first rows, below a title perhaps.
HEADER_ROWS = 20
_SHOWN_TABS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows go in at ``first_row`` (index from 0) of a tab, ``places`` says in which columns.

    ``added`` are the columns of the result that the sheet does not have yet, in their order; they go in right of
    ``header_end``. ``header_row`` is the row with the names, or None where the tab is blank: then it is written
    above the rows. ``dated`` are the places whose cells above show dates already.
    """

    tab: Tab
    first_row: int
    places: tuple[int, ...]
    added: tuple[int, ...]
    header_row: int | None
    header_end: int
    dated: frozenset[int]


def find_tab(book: Book, destination: GoogleSheetDestination) -> Tab:
    """The tab to append to: by its name, or by the link's gid, or the first one.

    Raises:
        Permanent: sheet_tab_missing, naming the tabs that are there.
    """
    tabs = book.visible_tabs
    if destination.sheet is not None:
        wanted = destination.sheet.strip().casefold()
        by_name = [tab for tab in tabs if tab.title.strip().casefold() == wanted]
        exact = [tab for tab in by_name if tab.title == destination.sheet]
        found = next(iter(exact or by_name), None)
    elif destination.spreadsheet.tab_id is not None:
        found = next((tab for tab in tabs if tab.id == destination.spreadsheet.tab_id), None)
    else:
        found = next(iter(tabs), None)
    if found is None:
        raise _missing(tabs, destination)
    return found


def _missing(tabs: list[Tab], destination: GoogleSheetDestination) -> Permanent:
    there = ", ".join(f"“{tab.title}”" for tab in tabs[:_SHOWN_TABS]) or "none that holds cells"
    asked = f"a tab “{destination.sheet}”" if destination.sheet is not None else "the tab that the link shows"
    return Permanent(
        FailureCode.SHEET_TAB_MISSING,
        f"The spreadsheet does not have {asked}. Its tabs are: {there}. Choose one of them, or a new tab.",
    )


def find_header(tab: Tab, names: Sequence[str]) -> int | None:
    """The index of the row that names the columns, or None in a blank tab.

    It is the one, of the first 20, that names most of ``names``; else the first that is not blank, and no
    mere title of a single cell if there is a wider one.

    Raises:
        Permanent: sheet_no_header: that row names none of them, and does not look like names at all.
    """
    rows = {index: tab.row(index) for index in range(min(HEADER_ROWS, tab.rows))}
    filled = [index for index, row in rows.items() if row.has_data]
    if not filled:
        return None
    headings = Headings(names)
    named = {index: _named(rows[index], headings) for index in filled}
    best = max(filled, key=lambda index: (named[index], -index))
    if named[best]:
        return best
    wide = [index for index in filled if len(_data(rows[index])) > 1]
    first = (wide or filled)[0]
    if not all(cell.shown.string_value for cell in _data(rows[first])):
        raise no_header(tab, first, names)
    return first


def no_header(tab: Tab, row: int, names: Sequence[str]) -> Permanent:
    return Permanent(
        FailureCode.SHEET_NO_HEADER,
        f"Row {row + 1} of the tab “{tab.title}” holds values, not the names of columns, and none of them is one of "
        f"ours ({', '.join(names[:5])}). Write the columns' names in the first row, or choose a new tab.",
    )


def _data(row: Row) -> list[Cell]:
    return [cell for cell in row.values if cell.shown.is_data]


def _named(row: Row, headings: Headings) -> int:
    return sum(place is not None for place in headings.places_in(header_of(row)))


def header_of(row: Row) -> list[str]:
    return [cell.shown.text for cell in row.values]


def plan_append(book: Book, tab: Tab, columns: Sequence[Column], *, rows: int, last_row: int | None) -> Plan:
    """Where ``rows`` rows of these columns go in; ``last_row`` is the index of the tab's last row with data.

    Raises:
        Permanent: sheet_no_header, sheet_full.
    """
    names = [column.name for column in columns]
    header_row = find_header(tab, names)
    if header_row is None and last_row is not None:
        raise no_header(tab, last_row, names)
    if header_row is None or last_row is None:
        plan = Plan(tab, 0, tuple(range(len(names))), (), None, 0, frozenset())
        _check_room(book, rows=rows + 1, width=max(tab.columns, len(names)), wider=len(names) - tab.columns, tab=tab)
        return plan
    header = header_of(tab.row(header_row))
    # A name may be blank to the eye: a space is data all the same.
    end = max(index for index, text in enumerate(header) if text) + 1
    found = match_columns(header, names)
    added = tuple(position for position, place in enumerate(found) if place is None)
    places = tuple(end + added.index(position) if place is None else place for position, place in enumerate(found))
    above = tab.row(last_row).values if last_row > header_row else ()
    dated = frozenset(place for place, cell in enumerate(above) if place < end and cell.is_dated)
    _check_room(book, rows=rows, width=tab.columns + len(added), wider=len(added), tab=tab)
    return Plan(tab, max(last_row, header_row) + 1, places, added, header_row, end, dated)


def _check_room(book: Book, *, rows: int, width: int, wider: int, tab: Tab) -> None:
    if width > MAX_COLUMNS or book.cells + max(0, wider) * tab.rows + rows * width > MAX_CELLS:
        raise sheet_full()


def sheet_full() -> Permanent:
    return Permanent(
        FailureCode.SHEET_FULL,
        f"The spreadsheet would have more than the {MAX_CELLS:,} cells that Google allows; blank rows and columns "
        "count too. Delete some of them, or choose another spreadsheet or a download.",
    )


def too_many_marks() -> Permanent:
    return Permanent(
        FailureCode.SHEET_FULL,
        "Too many answers were added to this spreadsheet today, and it has no room to remember one more. Use another "
        "spreadsheet or a download, or try again tomorrow.",
    )


def free_title(book: Book, wanted: str) -> str:
    """A title that no tab has yet: ``wanted``, or with a number behind it. Titles differ in more than case."""
    taken = {tab.title.casefold() for tab in book.sheets}
    title, number = wanted, 2
    while title.casefold() in taken:
        title, number = f"{wanted} ({number})", number + 1
    return title
