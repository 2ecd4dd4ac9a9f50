"""What a tenant may say about its reports: looks, words, sections and pace. No template code.

A tenant that could write templates could read whatever a template can reach. It gives values
instead: each is checked here, and the templates escape what they show.
"""

import base64
import binascii
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from troupe.common.units import KiB

LARGEST_LOGO: Final = 64 * KiB
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"

Section = Literal["figures", "chart", "tasks"]
SECTIONS: Final[tuple[Section, ...]] = ("figures", "chart", "tasks")
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]

DEFAULT_COLOUR: Final = "#1f5f99"


class ReportSettings(BaseModel):
    """How a tenant's reports look and leave."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    sender_name: Annotated[Line, Field(max_length=100)] = ""
    """Shown as the sender beside the address; empty: the tenant's name."""
    greeting: Annotated[Line, Field(max_length=600)] = ""
    """A few words above the figures; empty: a usual greeting in the reader's language."""
    colour: Colour = DEFAULT_COLOUR
    """Of headings and the chart."""
    logo: Annotated[str, Field(max_length=90_000)] = ""
    """A PNG or JPEG of at most 64 KiB, base64; empty: none."""
    sections: Annotated[tuple[Section, ...], Field(min_length=1, max_length=3)] = SECTIONS
    """What a report holds, in this order."""
    rows: Annotated[int, Field(ge=1, le=50)] = 10
    """Rows of a task list in the mail; all of them are in the attachment."""
    messages_per_minute: Annotated[int, Field(ge=1, le=60_000)] = 1200
    """Mails that leave in a minute at most."""
    connections: Annotated[int, Field(ge=1, le=16)] = 4
    """Connections to the mail server at a time."""
    bounces_until_suppressed: Annotated[int, Field(ge=1, le=20)] = 3
    """Hard bounces after which an address gets no more mail."""

    @field_validator("logo")
    @classmethod
    def _picture(cls, value: str) -> str:
        if not value:
            return value
        try:
            picture = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is not base64") from None
        if len(picture) > LARGEST_LOGO:
            raise ValueError("is larger than 64 KiB")
        if not picture.startswith((_PNG, _JPEG)):
            raise ValueError("is neither a PNG nor a JPEG")
        return value

    @field_validator("sections")
    @classmethod
    def _once(cls, value: tuple[Section, ...]) -> tuple[Section, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a section twice")
        return value

    @property
    def picture(self) -> tuple[bytes, str] | None:
        """The logo and its subtype, ``png`` or ``jpeg``."""
        if not self.logo:
            return None
        picture = base64.b64decode(self.logo)
        return picture, "png" if picture.startswith(_PNG) else "jpeg"
