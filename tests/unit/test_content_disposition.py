"""How a browser is told to save a result: any name, one header, nothing smuggled into it."""

import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.content_disposition import attachment

SHAPE = re.compile(r"""attachment; filename="([ !#-\x24&-\[\]-~]*)"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)""")


def told(name):
    """The plain name and the full one."""
    plain, full = SHAPE.fullmatch(attachment(name)).groups()
    return plain, unquote(full)


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("result.csv", "result.csv", "result.csv"),
        ("Übersicht 2025.xlsx", "_bersicht 2025.xlsx", "Übersicht 2025.xlsx"),
        ("売上.csv", "__.csv", "売上.csv"),
        ('a"; filename="evil.exe', "a_; filename=_evil.exe", "a_; filename=_evil.exe"),
        ("100%41.csv", "100_41.csv", "100%41.csv"),
        ("a\r\nSet-Cookie: x=1.csv", "aSet-Cookie_ x=1.csv", "aSet-Cookie_ x=1.csv"),
        ("../../etc/passwd", "_.._etc_passwd", "_.._etc_passwd"),
        ("C:\\new\\x.csv", "C__new_x.csv", "C__new_x.csv"),
        ("report\u202evsc.exe", "reportvsc.exe", "reportvsc.exe"),
        ("half \ud800.csv", "half .csv", "half .csv"),
        ("O'Neil (1).csv", "O'Neil (1).csv", "O'Neil (1).csv"),
        (".htaccess", "htaccess", "htaccess"),
        ("...", "download", "download"),
        ("\u200b", "download", "download"),
        ("", "download", "download"),
    ],
)
def test_a_name_is_told_in_both_forms(name, plain, full):
    assert told(name) == (plain, full)


def test_a_long_name_keeps_its_extension():
    plain, full = told("ü" * 500 + ".xlsx")

    assert full == "ü" * 97 + ".xlsx"
    assert len(full.encode()) <= 200
    assert plain.endswith(".xlsx")


def test_what_only_looks_like_an_extension_is_cut_too():
    assert told("a." + "b" * 500)[1] == "a." + "b" * 198


@given(st.text(st.characters()))
def test_no_name_leaves_its_header_or_its_folder(name):
    plain, full = told(name)
    header = Message()
    header["Content-Disposition"] = attachment(name)

    assert header.get_content_disposition() == "attachment"
    assert header.get_filename() in (plain, full)
    assert full not in ("", ".", "..")
    assert not set(full) & set('/\\\0"\r\n')
    assert len(full.encode()) <= 200
