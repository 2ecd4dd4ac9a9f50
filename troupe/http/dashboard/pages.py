"""The dashboard's routes: pages rendered on the server, and the few files that they load.

All state is in the address, so that a view can be bookmarked and sent to a colleague; the pages
can be read without JavaScript. Someone who is not signed in is led to the login of the auth group
and comes back to where they wanted to go.

Every figure on a page stands in an element with ``data-metric`` and ``data-value``: the name in the
registry and the exact value, for programs that read the page.
"""

from troupe.http.answering import Answering
from troupe.http.application import Application
from troupe.http.asked import Clock, utc_now
from troupe.http.dashboard import data_page, overview_page
from troupe.http.dashboard.frame import Addresses, Frame
from troupe.http.dashboard.static_files import StaticFiles

__all__ = ["Addresses", "declare"]


def declare(
    app: Application,
    answering: Answering,
    addresses: Addresses,
    clock: Clock = utc_now,
) -> None:
    """Declare the pages and let people, unlike programs, see errors as pages.

    Args:
        app: The analytics group's application.
        answering: Over the group's pool; pages that show rows which are no figures (jobs, days,
            people) read them through `answering.answers.database`.
        addresses: Where browsers reach us and the other groups.
        clock: The present instant; tests bring their own.
    """
    static = StaticFiles()
    frame = Frame(answering.answers, addresses, static, clock)
    static.declare(app.api)
    overview_page.declare(app.api, frame, answering)
    data_page.declare(app.api, frame, answering.answers)
    app.error_page = frame.error_page
