"""Workbooks to tables: every visible sheet that holds rows, its cells with the types they have."""

from collections.abc import Iterator
from datetime import date, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import python_calamine as calamine

from consumers.preprocessing.guest.archives import damaged, protected, workbook_kind
from consumers.preprocessing.guest.delimited import HEAD_RECORDS, empty, layout_notes
from consumers.preprocessing.guest.dialect import locate
from consumers.preprocessing.guest.notes import NAME_CHARACTERS, Note, clean, note
from consumers.preprocessing.guest.tables import TableBuilder
from consumers.preprocessing.guest.votes import Cell
from consumers.sandbox.guest.contract import Refusal

MAX_SHEETS = 50
BATCH_CELLS = 200_000
# Whole numbers up to here are exact in Excel, which keeps 15 significant digits.
MAX_WHOLE = 10**15


def read_workbook(path: Path, folder: Path, *, name: str) -> dict[str, Any]:
    """Read the sheets of a staged workbook into ``folder``; returns the report of the file.

    Raises:
        Refusal: ``file_empty``, ``file_type``, ``file_protected`` or ``file_unreadable``.
    """
    kind = workbook_kind(path, name)
    notes: list[Note] = []
    tables: list[dict[str, Any]] = []
    try:
        with path.open("rb") as file, calamine.CalamineWorkbook.from_filelike(file) as workbook:
            for sheet in _visible(workbook, notes):
                table = _read_sheet(workbook, sheet, folder, len(tables), name)
                if table is None:
                    notes.append(note(f"The sheet {clean(sheet)} is empty and was left out."))
                else:
                    tables.append(table)
    except calamine.PasswordError as error:
        raise protected(name) from error
    except (calamine.CalamineError, OSError) as error:
        raise damaged(name) from error
    except BaseException as error:
        # calamine panics on some damaged files, and a Rust panic is no Exception here.
        if type(error).__name__ == "PanicException":
            raise damaged(name) from error
        raise
    if not tables:
        raise empty(name)
    return {"kind": kind, "encoding": None, "notes": notes, "tables": tables}


def _visible(workbook: calamine.CalamineWorkbook, notes: list[Note]) -> Iterator[str]:
    """The names of the sheets to read; the others are told."""
    sheets = [s for s in workbook.sheets_metadata if s.typ == calamine.SheetTypeEnum.WorkSheet]
    hidden = [s.name for s in sheets if s.visible != calamine.SheetVisibleEnum.Visible]
    if hidden:
        names = ", ".join(clean(sheet) for sheet in hidden[:5]) + (", …" if len(hidden) > 5 else "")
        notes.append(note(f"Hidden sheets were left out: {names}."))
    visible = [s.name for s in sheets if s.visible == calamine.SheetVisibleEnum.Visible]
    if len(visible) > MAX_SHEETS:
        notes.append(note(f"Only the first {MAX_SHEETS} of {len(visible)} sheets were read."))
    yield from visible[:MAX_SHEETS]


def _read_sheet(
    workbook: calamine.CalamineWorkbook, sheet: str, folder: Path, number: int, name: str
) -> dict[str, Any] | None:
    rows = (row for row in workbook.get_sheet_by_name(sheet).iter_rows() if any(cell != "" for cell in row))
    head = list(islice(rows, HEAD_RECORDS))
    if not head:
        return None
    texts = [[_text(cell) for cell in row] for row in head]
    layout = locate(texts)
    data = head[layout.start + (layout.names is not None) :]
    if not data:
        return None
    names = layout.names or [""] * layout.width
    names = names + [""] * (layout.width - len(names))
    table = TableBuilder(folder, number, names, delimiter=None, name=name)
    width = len(table.names)
    every = chain(data, rows)
    while batch := list(islice(every, max(1, BATCH_CELLS // width))):
        columns = list(zip(*batch, strict=True))
        table.add(
            [
                *(pa.array([_text(cell) for cell in column], pa.string()) for column in columns),
                pa.nulls(len(batch), pa.string()),
            ],
            [_cells(column) for column in columns],
        )
    table.notes[:0] = layout_notes(layout, [" ".join(filter(None, row)) for row in texts[: layout.start]])
    return table.finish(clean(sheet, NAME_CHARACTERS) or f"Sheet {number + 1}")


def _text(cell: Any) -> str:
    """A cell as the readings of text know it: ``1``, ``1.5``, ``2024-01-31``, ``2024-01-31T09:30:00``, ``true``."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < MAX_WHOLE:
        return str(int(cell))
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell)


def _cells(column: tuple[Any, ...]) -> set[Cell]:
    kinds: set[Cell] = set()
    for kind in {type(cell) for cell in column}:
        if kind is bool:
            kinds.add("boolean")
        elif kind in (int, float):
            kinds.add("number")
        elif kind in (date, datetime):
            kinds.add("date")
        elif kind is not str or any(isinstance(cell, str) and cell.strip() for cell in column):
            kinds.add("text")
    return kinds


def staged(folder: Path, file: str, name: str) -> Path:
    """The staged file; refuses one without bytes."""
    path = folder / file
    if not path.stat().st_size:
        raise Refusal("file_empty", f'"{name}" is empty (0 bytes). Check that the right file was chosen.')
    return path
