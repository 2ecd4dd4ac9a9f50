"""A delivered mail as a mail program shows it: its HTML, with the pictures that came along."""

import base64
from email.message import EmailMessage
from pathlib import Path

from playwright.sync_api import Browser

SCHEMES = ("light", "dark")
WIDTH = 720


def page_of(message: EmailMessage) -> str:
    """The HTML part, with each picture by its content id put in place."""
    body = message.get_body(("html",))
    assert isinstance(body, EmailMessage)
    html: str = body.get_content()
    for part in message.walk():
        name = (part["Content-ID"] or "").strip("<>")
        if name:
            raw = part.get_payload(decode=True)
            assert isinstance(raw, bytes)
            encoded = base64.b64encode(raw).decode()
            html = html.replace(f"cid:{name}", f"data:{part.get_content_type()};base64,{encoded}")
    assert "cid:" not in html
    return html


def photograph(browser: Browser, message: EmailMessage, scheme: str) -> tuple[bytes, str]:
    """A picture of the whole mail, PNG, and the colour behind its text."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        java_script_enabled=True,
        offline=True,
    )
    try:
        page = context.new_page()
        page.set_content(page_of(message))
        sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert sizes, "there is a picture"
        assert all(sizes), "every picture came along"
        colour: str = page.evaluate(
            "getComputedStyle(document.querySelector('.sheet')).backgroundColor"
        )
        return page.screenshot(full_page=True), colour
    finally:
        context.close()


def keep(directory: Path, name: str, pictures: dict[str, bytes]) -> None:
    """Write pictures where the documents show them."""
    directory.mkdir(parents=True, exist_ok=True)
    for scheme, picture in pictures.items():
        (directory / f"{name}-{scheme}.png").write_bytes(picture)
