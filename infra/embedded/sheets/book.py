"""One spreadsheet: its tabs, its developer metadata, and who may read and write it."""

from collections.abc import Iterable, Sequence
from typing import Literal

from infra.embedded.sheets.cell import Cell
from infra.embedded.sheets.dimension import Shift
from infra.embedded.sheets.errors import ApiError, Json, forbidden, invalid
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.metadata import Metadata, check_room, matches, moved
from infra.embedded.sheets.ranges import Area, Bounds, a1, cells_area, grid_area, split

MAX_CELLS = 10_000_000
MAX_COLUMNS = 18_278
"""Column ZZZ. Source of both: Google Drive help, "Files you can store in Google Drive"."""

OWNER = "owner@example.com"

Role = Literal["reader", "writer"]

PROTECTED = (
    "You are trying to edit a protected cell or object. "
    "Please contact the spreadsheet owner to remove protection if you need to edit."
)


class Book:
    """A spreadsheet. ``evaluated`` lists every formula that was ever entered, in a refused batch too."""

    def __init__(self, spreadsheet_id: str, title: str, *, owner: str = OWNER) -> None:
        self.id = spreadsheet_id
        self.properties: Json = {
            "title": title,
            "locale": "en_US",
            "autoRecalc": "ON_CHANGE",
            "timeZone": "Etc/GMT",
        }
        self.tabs: list[Tab] = []
        self.metadata: dict[int, Metadata] = {}
        self.owner = owner
        self.shared: dict[str, Role] = {}
        self.office_file = False
        """Whether it is an uploaded Excel file, which the API does not read."""
        self.evaluated: list[str] = []
        self._last_id = 0

    @property
    def title(self) -> str:
        return str(self.properties["title"])

    def role_of(self, email: str) -> Literal["owner", "reader", "writer"] | None:
        return "owner" if email.lower() == self.owner.lower() else self.shared.get(email.lower())

    # ------------------------------------------------------------ tabs

    def tab(self, title: str) -> Tab:
        """The tab with this title; raises KeyError."""
        for tab in self.tabs:
            if tab.title == title:
                return tab
        raise KeyError(title)

    def sheet(self, sheet_id: int) -> Tab:
        """The tab with this id, as a request names it; raises ApiError."""
        for tab in self.tabs:
            if tab.id == sheet_id:
                return tab
        raise invalid(f"No grid with id: {sheet_id}")

    def titled(self, title: str) -> Tab | None:
        """Titles are one, whatever their case."""
        exact = [tab for tab in self.tabs if tab.title == title]
        return next(iter(exact or [tab for tab in self.tabs if tab.title.lower() == title.lower()]), None)

    def new_id(self, taken: Iterable[int]) -> int:
        """An id like Google's random ones, but the same in each run."""
        known = set(taken)
        while True:
            self._last_id += 1
            number = self._last_id * 1_103_515_245 % 2**31
            if number and number not in known:
                return number

    def find(self, text: str) -> tuple[Tab, Area]:
        """The tab and the area that a reference in A1 notation names; raises ApiError."""
        title, cells = split(text)
        if title is None and cells is not None:
            whole = self.titled(cells)
            if whole is not None:
                return whole, Area()
            tab: Tab | None = next((tab for tab in self.tabs if not tab.hidden), self.tabs[0])
        else:
            tab = self.titled(title or "")
        area = Area() if cells is None else cells_area(cells)
        if tab is None or area is None:
            raise invalid(f"Unable to parse range: {text}")
        return tab, area

    def find_bounds(self, text: str) -> tuple[Tab, Bounds]:
        """The same, clipped to the grid; a range that begins outside of it is refused."""
        tab, area = self.find(text)
        if area.start_row >= tab.row_count or area.start_column >= tab.column_count:
            far = Bounds(
                area.start_row,
                area.start_row + 1 if area.end_row is None else area.end_row,
                area.start_column,
                area.start_column + 1 if area.end_column is None else area.end_column,
            )
            raise beyond(tab, far)
        return tab, area.within(tab.row_count, tab.column_count)

    # ------------------------------------------------------------ rows and columns

    def insert(self, tab: Tab, dimension: str, start: int, count: int, *, like: int | None = None) -> None:
        """Insert rows or columns, with the format and size of ``like``, an index from before."""
        self.append(tab, dimension, count)
        self._follow(tab, dimension, tab.insert(dimension, start, count, like=like))

    def delete(self, tab: Tab, dimension: str, start: int, end: int) -> None:
        self._follow(tab, dimension, tab.delete(dimension, start, end))

    def move(self, tab: Tab, dimension: str, start: int, end: int, to: int) -> None:
        self._follow(tab, dimension, tab.move(dimension, start, end, to))

    def append(self, tab: Tab, dimension: str, count: int) -> None:
        tab.set_count(dimension, tab.count(dimension) + count)
        self.check_size()

    def resize(self, tab: Tab, dimension: str, count: int) -> None:
        """Give a tab so many rows or columns, at its end."""
        now = tab.count(dimension)
        if count < now:
            self.delete(tab, dimension, count, now)
        elif count > now:
            self.append(tab, dimension, count - now)

    def _follow(self, tab: Tab, dimension: str, shift: Shift) -> None:
        entries = (moved(entry, tab.id, dimension, shift) for entry in self.metadata.values())
        self.metadata = {entry.id: entry for entry in entries if entry is not None}

    def check_size(self) -> None:
        """Raise ApiError where the grids are larger than Google lets them be."""
        if sum(tab.row_count * tab.column_count for tab in self.tabs) > MAX_CELLS:
            raise invalid(
                f"This action would increase the number of cells in the workbook above the limit of {MAX_CELLS} cells."
            )
        if any(tab.column_count > MAX_COLUMNS for tab in self.tabs):
            raise invalid(
                "This action would increase the number of columns in the sheet "
                f"above the limit of {MAX_COLUMNS} columns."
            )

    # ------------------------------------------------------------ cells

    def put(self, tab: Tab, row: int, start_column: int, cells: Sequence[Cell | None]) -> None:
        """Write neighbouring cells of one row; every formula among them is remembered."""
        tab.put(row, start_column, cells)
        for cell in cells:
            if cell is not None and cell.value is not None and "formulaValue" in cell.value:
                self.evaluated.append(cell.value["formulaValue"])

    def check_writable(self, tab: Tab, area: Area, email: str) -> None:
        """Raise ApiError where somebody may not write because of a protection."""
        for protection in tab.protections.values():
            blocks = not protection.warning_only and not self.may_edit(protection.editors, email)
            if blocks and protection.area.meets(area):
                raise invalid(PROTECTED)

    def may_edit(self, editors: frozenset[str], email: str) -> bool:
        return email.lower() == self.owner.lower() or email.lower() in editors

    # ------------------------------------------------------------ metadata

    def add_metadata(self, entry: Metadata) -> None:
        self.metadata[entry.id] = entry
        check_room(self.metadata.values())

    def selected(self, data_filter: Json, project: str) -> list[Metadata]:
        """The metadata that a DataFilter selects, of what a project can see."""
        seen = [entry for entry in self.metadata.values() if entry.seen_by(project)]
        if "developerMetadataLookup" in data_filter:
            return [entry for entry in seen if matches(entry, data_filter["developerMetadataLookup"])]
        tab, area = self.filtered_area(data_filter)
        return [entry for entry in seen if entry.place.meets(tab.id, area)]

    def filtered_area(self, data_filter: Json) -> tuple[Tab, Area]:
        if "a1Range" in data_filter:
            return self.find(data_filter["a1Range"])
        named = data_filter.get("gridRange", {})
        return self.sheet(named.get("sheetId", 0)), grid_area(named)

    # ------------------------------------------------------------ all or nothing

    def save(self) -> "Book":
        """A copy to go back to."""
        saved = Book(self.id, self.title, owner=self.owner)
        saved.properties = self.properties
        saved.metadata = dict(self.metadata)
        saved.tabs = [tab.copy() for tab in self.tabs]
        return saved

    def restore(self, saved: "Book", tabs: Sequence[Tab]) -> None:
        """Back to a saved state; ``tabs`` are the tabs of that time, which stay the objects that they were."""
        self.properties = saved.properties
        self.metadata = saved.metadata
        for tab, before in zip(tabs, saved.tabs, strict=True):
            tab.restore(before)
        self.tabs = list(tabs)


def beyond(tab: Tab, bounds: Bounds) -> ApiError:
    return invalid(
        f"Range ({a1(tab.title, bounds)}) exceeds grid limits. "
        f"Max rows: {tab.row_count}, max columns: {tab.column_count}"
    )


def check_role(book: Book, email: str, *, write: bool) -> None:
    """Raise ApiError where an account may not do this; then where the file is none that the API reads."""
    role = book.role_of(email)
    if role is None or (write and role == "reader"):
        raise forbidden()
    if book.office_file:
        raise ApiError(400, "This operation is not supported for this document", status="FAILED_PRECONDITION")
