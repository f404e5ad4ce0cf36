"""A chart, called inside the sandbox: Vega-Lite to PNG and SVG, from a specification that may fetch nothing."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import vl_convert

from consumers.delivery.guest.files import described
from consumers.sandbox.guest.contract import Folders, Refusal

SCALE = 2
# Rows are data, whatever their fields are called.
_DATA_KEYS = frozenset({"values", "datasets"})
_FETCHING_KEYS = frozenset({"url", "href"})
_SCHEMA_VERSION = re.compile(r"/vega-lite/v(\d+)(?:\.(\d+))?")
_FOREIGN_PAINT = re.compile(r"url\(\s*['\"]?(?!#)", re.IGNORECASE)


def export_chart(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Draw ``inputs/chart.vl.json``; ``arguments`` are none. Returns ``files`` as ``export_tables`` does.

    Raises:
        Refusal: ``code_failed``: the specification is not valid, or loads something from outside.
    """
    try:
        text = (folders.inputs / "chart.vl.json").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal("code_failed", "The chart is no JSON. Assign an Altair chart to `chart`.") from error
    written = write_charts(text, folders.output)
    return {"files": [described(folders.output / name, media_type) for name, media_type in written], "notes": []}


def write_charts(spec_text: str, folder: Path) -> list[tuple[str, str]]:
    """Write ``chart.png``, ``chart.svg`` and ``chart.vl.json``; returns names and media types.

    Raises:
        Refusal: ``code_failed``, with words that a model can act on.
    """
    spec = _parse(spec_text)
    _refuse_fetching(spec)
    # vega-embed would take loaders and styles from here, in the browser of whoever opens the file.
    spec.pop("usermeta", None)
    text = json.dumps(spec, ensure_ascii=False)
    try:
        svg = vl_convert.vegalite_to_svg(text, vl_version=_version(spec), allowed_base_urls=[])
    except ValueError as error:
        raise Refusal("code_failed", f"Vega-Lite cannot draw this chart: {_first_lines(error)}") from error
    _refuse_foreign_parts(svg)
    png = vl_convert.svg_to_png(svg, scale=SCALE)
    (folder / "chart.png").write_bytes(png)
    (folder / "chart.svg").write_text(svg, encoding="utf-8")
    (folder / "chart.vl.json").write_text(text, encoding="utf-8")
    return [
        ("chart.png", "image/png"),
        ("chart.svg", "image/svg+xml"),
        ("chart.vl.json", "application/vnd.vegalite+json"),
    ]


def _parse(text: str) -> dict[str, Any]:
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal("code_failed", "The chart is no JSON. Assign an Altair chart to `chart`.") from error
    if not isinstance(spec, dict):
        raise Refusal("code_failed", "The chart is no Vega-Lite specification. Assign an Altair chart to `chart`.")
    return spec


def _refuse_fetching(spec: dict[str, Any]) -> None:
    """No URL for data, lookups or images, and no links, at any depth."""
    waiting: list[Any] = [spec]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if _FETCHING_KEYS & part.keys() or "image" in (part.get("mark"), part.get("type")):
                raise _fetches()
            waiting += [value for key, value in part.items() if key not in _DATA_KEYS]


def _refuse_foreign_parts(svg: str) -> None:
    """Whatever way it came about: the drawing itself points nowhere outside."""
    for element in ET.fromstring(svg).iter():  # noqa: S314  written by vl_convert, which declares no entities
        if element.tag.rpartition("}")[2] in ("image", "script", "foreignObject", "use"):
            raise _fetches()
        for name, value in element.attrib.items():
            local = name.rpartition("}")[2]
            link = local == "href" and not value.startswith("#")
            if link or (not local.startswith("aria-") and _FOREIGN_PAINT.search(value)):
                raise _fetches()


def _fetches() -> Refusal:
    return Refusal(
        "code_failed",
        "The chart loads something from outside (a url, an image or a link). Give alt.Chart the data as a DataFrame.",
    )


def _version(spec: dict[str, Any]) -> str:
    """The Vega-Lite that the specification names, or the nearest that is here."""
    here = sorted(vl_convert.get_vegalite_versions(), key=_as_numbers)
    match = _SCHEMA_VERSION.search(str(spec.get("$schema", "")))
    if match is None:
        return here[-1]
    exact = f"{match[1]}.{match[2]}"
    same_major = [version for version in here if version.split(".")[0] == match[1]]
    return exact if exact in here else (same_major or here)[-1]


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _first_lines(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if not line.strip().startswith("at ")]
    return " ".join(lines)[:400] or "the specification is not valid."
