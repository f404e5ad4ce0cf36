"""Charts inside the sandbox: drawn from a specification that may fetch nothing."""

import json
from xml.etree import ElementTree as ET

import altair as alt
import pandas as pd
import pytest

from consumers.delivery.guest.charts import export_chart
from consumers.sandbox.guest.contract import Folders, Refusal


def chart(folder, spec):
    output = folder / "output"
    output.mkdir()
    (folder / "chart.vl.json").write_text(spec if isinstance(spec, str) else json.dumps(spec), encoding="utf-8")
    return export_chart({}, Folders(folder, output))


FRAME = pd.DataFrame({"city": ["Köln", "Paris"], "url": ["https://a.example", "https://b.example"], "sum": [3, 5]})
BARS = alt.Chart(FRAME).mark_bar().encode(x="city", y="sum", tooltip="url").to_dict()


def test_a_chart_is_drawn_as_png_and_svg_with_its_specification(tmp_path):
    report = chart(tmp_path, BARS | {"usermeta": {"embedOptions": {"loader": {"http": {}}}}})

    output = tmp_path / "output"
    assert [(file["file"], file["media_type"]) for file in report["files"]] == [
        ("chart.png", "image/png"),
        ("chart.svg", "image/svg+xml"),
        ("chart.vl.json", "application/vnd.vegalite+json"),
    ]
    assert all(file["size"] == (output / file["file"]).stat().st_size for file in report["files"])
    assert (output / "chart.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    svg = ET.fromstring((output / "chart.svg").read_text(encoding="utf-8"))
    assert "Köln" in [text for element in svg.iter() for text in [element.text] if text]
    assert json.loads((output / "chart.vl.json").read_text(encoding="utf-8")) == BARS


def with_encoding(**channels):
    return BARS | {"encoding": BARS["encoding"] | channels}


FETCHING = {
    "data from a url": BARS | {"data": {"url": "http://127.0.0.1/x.json"}},
    "a lookup in a url": BARS
    | {"transform": [{"lookup": "city", "from": {"data": {"url": "file:///etc/passwd"}, "key": "a", "fields": ["b"]}}]},
    "a layer within": {"layer": [BARS | {"data": {"url": "x.csv"}}]},
    "an image mark": BARS | {"mark": "image"},
    "an image of the data": with_encoding(url={"field": "url"}) | {"mark": {"type": "image"}},
    "a link": with_encoding(href={"field": "url"}),
    "a foreign paint": BARS | {"mark": {"type": "bar", "color": "url(http://127.0.0.1/x.svg#a)"}},
    "a foreign paint from the data": BARS
    | {
        "data": {"values": [{"city": "x", "sum": 1, "paint": "url( 'http://127.0.0.1/x' )"}]},
        "encoding": {"x": {"field": "city"}, "color": {"field": "paint", "scale": None}},
    },
}


@pytest.mark.parametrize("spec", FETCHING.values(), ids=FETCHING.keys())
def test_a_chart_that_would_load_something_is_refused(spec, tmp_path):
    with pytest.raises(Refusal, match="loads something from outside") as refusal:
        chart(tmp_path, spec)
    assert refusal.value.code == "code_failed"
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.parametrize(
    "spec",
    ["no json", "[1]", "[" * 100_000, {"mark": "zebra", "data": {"values": []}}, {"a": 1}, {"$schema": "v99"}],
    ids=["text", "list", "depth", "mark", "other", "schema"],
)
def test_what_is_no_chart_is_refused_in_words_for_the_model(spec, tmp_path):
    with pytest.raises(Refusal) as refusal:
        chart(tmp_path, spec)
    assert refusal.value.code == "code_failed"
    assert "cdn.jsdelivr" not in refusal.value.message
    assert len(refusal.value.message) <= 500


def test_an_older_vega_lite_is_drawn_by_its_own_version(tmp_path):
    older = BARS | {"$schema": "https://vega.github.io/schema/vega-lite/v5.99.json"}

    assert len(chart(tmp_path, older)["files"]) == 3
