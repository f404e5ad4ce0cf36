"""One batch in the making: the spreadsheet, and on whose behalf it is changed."""

from dataclasses import dataclass

from infra.embedded.sheets.book import Book
from infra.embedded.sheets.discovery import discovery
from infra.embedded.sheets.errors import ApiError, Json, invalid
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.masks import Mask, parse
from infra.embedded.sheets.ranges import Area


@dataclass(frozen=True, slots=True)
class Edit:
    book: Book
    email: str
    project: str

    def check_writable(self, tab: Tab, area: Area) -> None:
        self.book.check_writable(tab, area, self.email)

    def check_unprotected(self, tab: Tab) -> None:
        """Refuse what changes a tab as a whole, where all of it is protected."""
        for protection in tab.protections.values():
            if protection.area.is_whole:
                self.check_writable(tab, protection.area)


def update_mask(request: Json, schema: str) -> Mask:
    """The mask of an update request, checked against the schema that it updates; the empty mask is all."""
    text = request.get("fields", "")
    if not text:
        raise invalid("At least one field must be listed in 'fields'. (Use '*' to indicate all fields.)")
    try:
        mask = parse(text)
        discovery().check_mask(schema, mask)
    except ApiError as error:
        raise invalid(f"Invalid field mask: {error.details[0]['fieldViolations'][0]['field']}") from error
    return mask
