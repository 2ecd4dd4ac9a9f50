"""The chart of a mail: bars, one for each day, as a PNG.

Mail programs show no SVG, and no picture that is not sent along. So the chart is laid out here as
SVG and drawn by resvg (inside `vl_convert`, with the fonts that come with it, so that the same
bytes come out on every host). The picture is made of numbers and of labels that we write: no
address is ever in it, so nothing can be fetched while it is drawn.

It is drawn for a light background with room around it, and keeps that background in dark mode.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Final
from xml.sax.saxutils import escape

import vl_convert

from troupe.actors.analytics.reports.content import ChartDay
from troupe.actors.analytics.reports.wording import Wording

WIDTH: Final = 600
HEIGHT: Final = 200
SCALE: Final = 2.0
"""Two pixels of the picture for one of the page: sharp on a telephone."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 14, 28
_FONT: Final = "Roboto, Liberation Sans, sans-serif"
_NICE: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_STEPS: Final = 4
_MOST_LABELS: Final = 8
_LARGEST: Final = 1e15
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LENGTH: Final = struct.Struct(">I")
_FRAME: Final = 12
"""Of a chunk: its length, kind and checksum."""
_PACKING: Final = 1
"""Of zlib's nine levels: 6 saves another third and takes twice as long."""
_GREY, _LINE, _TEXT = "#c3c9d1", "#e4e7eb", "#5b6673"


def _step(highest: float) -> float:
    """A round distance between lines, of which about four reach the highest value."""
    if highest <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(highest / _STEPS))
    return next(nice * magnitude for nice in _NICE if nice * magnitude * _STEPS >= highest * 0.999)


def draw(days: Sequence[ChartDay], colour: str, words: Wording) -> str:
    """The chart as SVG.

    Args:
        days: In order, at least one.
        colour: Of the bars, ``#rrggbb``.
        words: Of the labels.
    """
    highest = max(_height(value) for day in days for value in (day.value, day.before))
    step = _step(highest)
    lines = max(1, math.ceil(highest / step - 1e-9))
    top = step * lines
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    slot = inner_width / len(days)
    every = max(1, math.ceil(len(days) / _MOST_LABELS))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
            f' viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{_FONT}" font-size="11">'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        )
    ]

    def y(value: float) -> float:
        return _TOP + inner_height * (1 - value / top)

    def bar(x: float, width: float, value: float, fill: str) -> None:
        if value > 0:
            parts.append(
                f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{width:.1f}"'
                f' height="{_TOP + inner_height - y(value):.1f}" fill="{fill}"/>'
            )

    for number in range(lines + 1):
        at = y(step * number)
        label = escape(words.axis(Decimal(repr(step * number))))
        parts.append(
            f'<path d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}" stroke="{_LINE}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end"'
            f' fill="{_TEXT}">{label}</text>'
        )
    for index, day in enumerate(days):
        left = _LEFT + slot * index
        bar(left + slot * 0.08, slot * 0.38, _height(day.before), _GREY)
        bar(left + slot * 0.46, slot * 0.46, _height(day.value), colour)
        if (len(days) - 1 - index) % every == 0:
            label = escape(words.short_day(day.day))
            parts.append(
                f'<text x="{left + slot / 2:.1f}" y="{HEIGHT - 9}" text-anchor="middle"'
                f' fill="{_TEXT}">{label}</text>'
            )
    return "".join(parts) + "</svg>"


def picture(days: Sequence[ChartDay], colour: str, words: Wording) -> bytes:
    """The chart as a PNG of twice its size. Blocks for some 30 ms: call it in a thread."""
    return packed(vl_convert.svg_to_png(draw(days, colour, words), scale=SCALE))


def packed(png: bytes) -> bytes:
    """The same picture in a third of the bytes: resvg packs for speed.

    What is saved in encoding and sending a mail is more than packing costs (a few milliseconds).
    """
    kept, pixels, at = [png[: len(_SIGNATURE)]], b"", len(_SIGNATURE)
    while at < len(png):
        (length,) = _LENGTH.unpack_from(png, at)
        end = at + _FRAME + length
        kind, data = png[at + 4 : at + 8], png[at + 8 : end - 4]
        if kind == b"IDAT":
            pixels += data
        elif kind == b"IEND":
            kept += [_chunk(b"IDAT", zlib.compress(zlib.decompress(pixels), _PACKING)), png[at:end]]
        else:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + kind + data + _LENGTH.pack(zlib.crc32(kind + data))


def _height(value: Decimal | None) -> float:
    """Of a bar; refunds are no revenue, and what is absurd ends at the edge."""
    return 0.0 if value is None else min(max(float(value), 0.0), _LARGEST)
