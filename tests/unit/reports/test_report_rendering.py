"""What a reader sees: the same bytes every time, and nothing that others wrote in charge."""

import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email import message_from_bytes, policy
from typing import Any

import openpyxl
import pytest
import vl_convert
from PIL import Image

from tests.unit.reports.reports import DAY, HOSTILE, content, tasks
from troupe.actors.analytics.metrics import Unit
from troupe.actors.analytics.reports.chart import draw, packed
from troupe.actors.analytics.reports.content import ChartDay
from troupe.actors.analytics.reports.mail import Envelope, check_address, compose
from troupe.actors.analytics.reports.rendering import (
    CHART_ID,
    LARGEST_HTML,
    Links,
    Reader,
    Rendered,
    Renderer,
)
from troupe.actors.analytics.reports.settings import ReportSettings
from troupe.actors.analytics.reports.wording import LANGUAGES, Wording, missing_words
from troupe.actors.analytics.reports.workbook import write_workbook
from troupe.common.errors import InvalidInput

LINKS = Links("https://board.example/?a=1&b=2", "https://board.example/unsubscribe/abc")
RENDERER = Renderer()


def rendered(language: str = "en", look: ReportSettings | None = None, **more: Any) -> Rendered:
    what = more.pop("content", content())
    reader = Reader("ada@branch.example", more.pop("name", "Ada"), language, **more)
    settings = look or ReportSettings()
    shared = RENDERER.share(what, settings, language)
    return RENDERER.render(what, settings, reader, LINKS, shared)


def envelope(**changes: Any) -> Envelope:
    values = {
        "sender": "reports@shop.example",
        "sender_name": "Häfen, Söhne",
        "recipient": "ada@branch.example",
        "recipient_name": "Ada, Countess",
        "message_id": "report.abc@shop.example",
        "dated": datetime(2026, 11, 23, 7, tzinfo=UTC),
        "unsubscribe": LINKS.unsubscribe,
    }
    return Envelope(**(values | changes))


def test_every_language_has_every_word() -> None:
    assert missing_words() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_content_gives_the_same_bytes(language: str) -> None:
    mails = [compose(rendered(language), envelope()) for _ in range(2)]
    assert mails[0] == mails[1]


def test_what_visitors_wrote_is_shown_and_not_obeyed() -> None:
    html = rendered().html or ""
    assert "<script>" not in html
    assert "{{ 7 * 7 }}" in html
    assert "49" not in html
    assert "Häfen &amp; &lt;Söhne&gt;" in html


def test_a_tenant_gives_words_and_no_template() -> None:
    look = ReportSettings(greeting="{{ config }}<b>{% raw %}", colour="#aa0000")
    html = rendered(look=look).html or ""
    assert "{{ config }}&lt;b&gt;{% raw %}" in html
    assert "color: #aa0000" in html


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"colour": '#aa0000"'},
        {"logo": "bm90IGEgcGljdHVyZQ=="},
        {"logo": "!!!"},
        {"sections": ("figures", "figures")},
        {"sections": ()},
        {"greeting": "a\x00b"},
        {"template": "{{ 1 }}"},
    ],
)
def test_what_a_tenant_may_not_set(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's, whatever it says
        ReportSettings(**wrong)


def test_styles_are_inlined_and_dark_mode_stays() -> None:
    html = rendered().html or ""
    assert re.search(r'<td class="title"[^>]*style="[^"]*font-size', html)
    assert "@media (prefers-color-scheme: dark)" in html
    assert "<link" not in html


def test_sections_come_in_the_tenant_s_order() -> None:
    html = rendered(look=ReportSettings(sections=("tasks", "figures"))).html or ""
    assert html.index("Purchases") < html.index("Key figures")
    assert CHART_ID not in html


def test_what_nobody_offers_is_said() -> None:
    assert "Not part of this report yet: performance." in (rendered().html or "")


def test_a_mail_stays_below_what_gmail_clips() -> None:
    long = tuple(replace(tasks(50, "W" * 200, columns=9), kind=str(number)) for number in range(5))
    report = rendered(content=content(tasks=long), look=ReportSettings(rows=50))
    assert len((report.html or "").encode()) <= LARGEST_HTML
    assert "all of them are in the attachment" in (report.html or "")


def test_a_notice_holds_no_figure() -> None:
    reader = Reader("ada@branch.example", "Ada", "en")
    notice = RENDERER.render(content(), ReportSettings(), reader, LINKS, None)
    assert notice.subject.startswith("Figures are late:")
    for text in (notice.html or "", notice.text):
        assert "1,234.50" not in text
        assert "not complete yet" in text
    assert notice.workbook is None
    assert notice.chart is None


def test_the_workbook_holds_texts_as_texts() -> None:
    raw = write_workbook(content(), Wording("en", "EUR"))
    book = openpyxl.load_workbook(io.BytesIO(raw))
    assert book.sheetnames == ["Figures", "Days", "Purchases"]
    cell = book["Purchases"]["A2"]
    assert (cell.value, cell.data_type) == (HOSTILE, "s")
    assert book["Figures"]["B2"].value == 1234.5
    assert book["Days"].max_row == 15
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert not any("externalLink" in name for name in archive.namelist())


def test_all_rows_are_in_the_workbook() -> None:
    raw = write_workbook(content(tasks=(tasks(500),)), Wording("de", "EUR"))
    assert openpyxl.load_workbook(io.BytesIO(raw))["Käufe"].max_row == 501


def test_a_packed_picture_is_the_same_and_smaller() -> None:
    svg = draw(content().days, "#1a5fb4", Wording("en", "EUR"))
    drawn = vl_convert.svg_to_png(svg, scale=2)
    small = packed(drawn)
    assert len(small) < len(drawn) / 2
    with Image.open(io.BytesIO(drawn)) as before, Image.open(io.BytesIO(small)) as after:
        assert before.size == after.size == (1200, 400)
        assert before.tobytes() == after.tobytes()


def test_the_picture_names_no_address() -> None:
    days = [ChartDay(DAY, Decimal(5), None)]
    svg = draw(days, "#1f5f99", Wording("de", "EUR"))
    assert svg.count("http") == 1  # the namespace
    assert "href" not in svg


@pytest.mark.parametrize("value", ["0", "-5", "0.01", "1e308", "999999999999"])
def test_the_picture_of_any_revenue_can_be_drawn(value: str) -> None:
    svg = draw([ChartDay(DAY, Decimal(value), Decimal(0))], "#1f5f99", Wording("en", "EUR"))
    assert "nan" not in svg
    assert "inf" not in svg


def test_the_mail_is_read_as_it_was_meant() -> None:
    raw = compose(rendered(), envelope())
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    message = message_from_bytes(raw, policy=policy.default)
    assert message["From"].addresses[0].addr_spec == "reports@shop.example"
    assert len(message["To"].addresses) == 1
    assert message["List-Unsubscribe"] == f"<{LINKS.unsubscribe}>"
    assert message["Message-ID"] == "<report.abc@shop.example>"
    types = [part.get_content_type() for part in message.walk()]
    assert types == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ]


@pytest.mark.parametrize("length", [10, 100, 800])
def test_a_long_link_is_written_as_it_is(length: int) -> None:
    link = f"https://board.example/unsubscribe?token={'A_-x' * (length // 4)}"
    name = f"report.abc@{'x' * 60}.{'y' * 60}.example"
    raw = compose(rendered(workbook=False), envelope(unsubscribe=link, message_id=name))
    assert f"List-Unsubscribe: <{link}>\r\n".encode() in raw
    assert f"Message-ID: <{name}>\r\n".encode() in raw


@pytest.mark.parametrize("link", ["https://x/ y", "https://x/\r\nBcc: a@b.c", "https://x/ä"])
def test_a_link_cannot_add_a_header(link: str) -> None:
    with pytest.raises(InvalidInput):
        compose(rendered(workbook=False), envelope(unsubscribe=link))


def test_encoded_lines_are_as_short_as_they_must_be() -> None:
    raw = compose(rendered(), envelope())
    body = raw.partition(b"\r\n\r\n")[2]
    assert max(len(line) for line in body.split(b"\r\n") if not line.startswith(b"Content-")) <= 76


def test_plain_text_is_plain_text_alone() -> None:
    report = rendered(format="text", workbook=False)
    message = message_from_bytes(compose(report, envelope()), policy=policy.default)
    assert message.get_content_type() == "text/plain"


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example, c@d.example",
        "a@b.example\r\nBcc: x@y.example",
        "Ada <a@b.example>",
        "a b@c.example",
        "@b.example",
        "a@",
        "a@b@c",
        ".a@b.example",
        "a..b@c.example",
        "ä@b.example",
        "a@b.example\x00",
        "a@-b.example",
        "a" * 65 + "@b.example",
        '"a"@b.example',
    ],
)
def test_what_is_not_one_plain_address(address: str) -> None:
    with pytest.raises(InvalidInput):
        check_address(address)


def test_a_name_cannot_add_a_header() -> None:
    hostile = envelope(recipient_name="Ada\r\nBcc: eve@evil.example", sender_name="\x00")
    raw = compose(rendered(name="x"), hostile)
    message = message_from_bytes(raw, policy=policy.default)
    assert message["Bcc"] is None


@pytest.mark.parametrize("value", [None, 0, Decimal("1e300"), Decimal("-0.001")])
def test_any_figure_can_be_written(value: Any) -> None:
    for language in LANGUAGES:
        words = Wording(language, "EUR")
        for unit in Unit:
            assert words.figure(value, unit)
        assert words.change(None if value is None else Decimal(value))
