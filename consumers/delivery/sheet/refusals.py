"""Refusals: what Google's no means to the person who asked, in words that say what to do."""

from consumers.delivery.sheet.plan import sheet_full
from consumers.errors import Permanent, SheetRefused, Transient
from events.results import FailureCode

_OPERATOR = "Google Sheets cannot be used until our team has mended the access; it has been told."


def known_refusal(refused: SheetRefused, account: str) -> Permanent | None:
    """What a refusal means, or None where it may only mean that the sheet has changed meanwhile.

    The words are Google's own, as far as they are known; the first line that fits decides.
    """
    said = refused.message.lower()
    meanings = (
        (refused.status == 401, not_set_up),
        ("has not been used in project" in said or "it is disabled" in said, not_set_up),
        (refused.status == 404, not_found),
        ("not supported for this document" in said, not_a_sheet),
        (refused.status == 403, lambda: not_shared(account)),
        ("protected cell or object" in said, lambda: protected(account)),
        ("limit of 10000000 cells" in said, sheet_full),
    )
    return next((meaning() for fits, meaning in meanings if fits), None)


def not_found() -> Permanent:
    return Permanent(
        FailureCode.SHEET_NOT_FOUND,
        "There is no such spreadsheet, or it was deleted. Open it in a browser, copy its address, and try again.",
    )


def not_a_sheet() -> Permanent:
    return Permanent(
        FailureCode.SHEET_NOT_A_SHEET,
        "The link leads to an Excel or other file in Google Drive. Open it, choose File, “Save as Google Sheets”, "
        "and use the new sheet's link.",
    )


def not_shared(account: str) -> Permanent:
    return Permanent(
        FailureCode.SHEET_NOT_SHARED,
        f'Share the sheet with {account} as Editor (button "Share"), then try again.',
    )


def read_only(account: str) -> Permanent:
    return Permanent(
        FailureCode.SHEET_READ_ONLY,
        f"The sheet is shared with {account} for reading only. Make that account an Editor, then try again.",
    )


def protected(account: str) -> Permanent:
    return Permanent(
        FailureCode.SHEET_PROTECTED,
        f"The place of the rows is protected. Let {account} edit the protected range (Data, “Protect sheets and "
        "ranges”), then try again.",
    )


def not_set_up() -> Permanent:
    return Permanent(FailureCode.SHEETS_NOT_SET_UP, _OPERATOR)


def unforeseen() -> Permanent:
    return Permanent(
        FailureCode.INTERNAL,
        "The rows could not be added to the sheet, and our team has been told. Choose a download instead.",
    )


def not_taken_back() -> Permanent:
    return Permanent(
        FailureCode.INTERNAL,
        "The rows could not be removed from the sheet, and our team has been told. Remove them by hand.",
    )


def result_too_large() -> Permanent:
    return Permanent(
        FailureCode.RESULT_TOO_LARGE,
        "The result is too large for a sheet. Ask for less at once, or choose a download as csv or parquet.",
    )


def unavailable() -> Transient:
    return Transient(FailureCode.SHEETS_UNAVAILABLE, "Google Sheets cannot be reached. Please try again later.")
