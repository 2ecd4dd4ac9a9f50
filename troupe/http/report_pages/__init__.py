"""The two pages behind an unsubscribe link; they need neither scripts nor a login."""

import jinja2
from quart import Response

from troupe.actors.analytics.reports.unsubscribe import Subscription

_WORDS = {
    "en": {
        "title": "Reports of {tenant}",
        "ask": "Shall {address} get no more reports of {tenant}?",
        "button": "Unsubscribe",
        "done": "{address} gets no more reports of {tenant}.",
        "again": "Ask {tenant} if you want them back.",
    },
    "de": {
        "title": "Berichte von {tenant}",
        "ask": "Soll {address} keine Berichte von {tenant} mehr erhalten?",
        "button": "Abbestellen",
        "done": "{address} erhält keine Berichte von {tenant} mehr.",
        "again": "Wenden Sie sich an {tenant}, wenn Sie sie wieder erhalten möchten.",
    },
}


class UnsubscribePages:
    """Renders the pages; the template is read once."""

    def __init__(self) -> None:
        templates = jinja2.Environment(
            loader=jinja2.PackageLoader(__name__),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._page = templates.get_template("unsubscribe.html")

    def ask(self, subscription: Subscription) -> Response:
        """The question, with a button."""
        return self._render(subscription, done=False)

    def done(self, subscription: Subscription) -> Response:
        """What was done."""
        return self._render(subscription, done=True)

    def _render(self, subscription: Subscription, *, done: bool) -> Response:
        known = {"tenant": subscription.tenant_name, "address": subscription.address}
        words = {name: text.format(**known) for name, text in _WORDS[subscription.language].items()}
        html = self._page.render(words=words, language=subscription.language, done=done)
        headers = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer"}
        return Response(html, 200, headers, content_type="text/html; charset=utf-8")
