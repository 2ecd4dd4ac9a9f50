"""A page as the tests read it: its elements in order, each with all text inside it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

VOID: Final = frozenset({"meta", "link", "input", "br", "img"})


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""

    def has(self, **wanted: str) -> bool:
        return all(
            self.attributes.get(name.strip("_").replace("_", "-")) == value
            for name, value in wanted.items()
        )


@dataclass
class Page(HTMLParser):
    """The elements of a page, each with all text inside it."""

    html: str
    status: int = 200
    elements: list[Element] = field(default_factory=list)
    opened: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        assert not self.opened, self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.opened.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.opened:
            element.text += data

    def all(self, tag: str, **wanted: str) -> list[Element]:
        return [one for one in self.elements if one.tag == tag and one.has(**wanted)]

    def one(self, tag: str, **wanted: str) -> Element:
        (found,) = self.all(tag, **wanted)
        return found

    def cards(self) -> dict[str, Element]:
        return {one.attributes["data-metric"]: one for one in self.all("a", class_="card")}

    def branches(self) -> dict[str, dict[str, str]]:
        """The exact figures of every row of the table of branches."""
        rows: dict[str, dict[str, str]] = {}
        current: dict[str, str] | None = None
        for one in self.elements:
            if one.tag == "tr":
                current = rows.setdefault(one.attributes["data-location"], {}) if (
                    "data-location" in one.attributes
                ) else None  # fmt: skip
            elif one.tag == "td" and current is not None and "data-metric" in one.attributes:
                current[one.attributes["data-metric"]] = one.attributes["data-value"]
        return rows

    def notices(self) -> list[str]:
        return [one.text for one in self.all("p") if "notice" in one.attributes.get("class", "")]
