"""The sections of the dashboard: one table, which the navigation and the keyboard are made of.

A page adds its line here when it lands, and nothing else has to know of it: the navigation lists
it, ``g`` and then its key leads to it, the help sheet says so, and the tests that look at every
page (`tests/e2e/dashboard`) look at it too.
"""

from dataclasses import dataclass
from typing import Final

from troupe.http.principal import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One entry of the navigation.

    Attributes:
        name: Stable identifier; which section a page belongs to.
        title: For people.
        path: Its address.
        heading: What it stands under in the navigation; neighbours with the same stand together.
        icon: Name of a shape in ``icons.html``.
        key: Pressed after ``g`` to go there; one small letter.
        least: Role below which the entry is not shown. The page itself requires it too.
    """

    name: str
    title: str
    path: str
    heading: str
    icon: str
    key: str
    least: Role = Role.VIEWER


SECTIONS: Final = (
    Section(name="overview", title="Overview", path="/", heading="Shop", icon="chart", key="o"),
    Section(name="data", title="Data", path="/data", heading="Operation", icon="database", key="d"),
)  # fmt: skip


def sections_for(role: Role) -> tuple[tuple[str, tuple[Section, ...]], ...]:
    """The navigation of a person with this role: headings, each with its sections, in order."""
    headings: dict[str, list[Section]] = {}
    for section in SECTIONS:
        if role >= section.least:
            headings.setdefault(section.heading, []).append(section)
    return tuple((heading, tuple(found)) for heading, found in headings.items())
