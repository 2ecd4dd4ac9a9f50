"""The templates of the pages, with what all of them may use."""

import jinja2

from troupe.actors.analytics.metrics import Unit
from troupe.http.dashboard import formats

_PACKAGE = "troupe.http.dashboard"


def environment(**further: object) -> jinja2.Environment:
    """Templates that escape everything and take no unknown name for an empty text.

    Args:
        further: Globals beside `fmt` (how figures are written) and `money`.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        auto_reload=False,  # it would look at every template's file for every page
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"fmt": formats, "money": Unit.MONEY, **further}
    return made
