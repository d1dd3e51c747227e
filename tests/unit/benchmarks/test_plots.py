"""The pictures are well-formed, to scale, and legible on both grounds."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.plots import Bar, Panel, svg

SVG = "{http://www.w3.org/2000/svg}"


def _drawn(*bars: Bar) -> ElementTree.Element:
    return ElementTree.fromstring(svg('A2: "50" writers & <more>', [Panel("CPU", bars), Panel("p50", bars)]))


def test_bars_are_to_scale_and_begin_at_nothing() -> None:
    picture = _drawn(Bar("collab", 5.0, "5.00", ours=True), Bar("yws", 10.0, "10.00", ours=False))
    widths = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert widths[0] * 2 == widths[1]
    assert widths[:2] == widths[2:]


def test_everything_is_inside_the_picture_and_said_in_words() -> None:
    picture = _drawn(Bar("collab", 0.0, "0", ours=True), Bar("pycrdt-websocket", 1.0, "1.00 (!)", ours=False))
    bottom = max(float(bar.attrib["y"]) + float(bar.attrib["height"]) for bar in picture.iter(f"{SVG}rect"))
    assert bottom <= float(picture.attrib["height"])
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert "pycrdt-websocket" in words
    assert "1.00 (!)" in words
    assert picture.attrib["aria-label"] == 'A2: "50" writers & <more>'


def test_dark_ground_has_colours_of_its_own() -> None:
    assert "prefers-color-scheme: dark" in svg("A2", [])
