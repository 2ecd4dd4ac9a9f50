"""The parts of a workbook: an XLSX file is a ZIP archive that a stranger made.

A 194 KB archive may claim, or turn out, to hold 200 MB. Before anything is unpacked the archive's
directory is held to limits (entries, declared bytes, ratio), and while a part is unpacked what
really comes out is counted over the whole file, because the directory is the stranger's word. Only
the four or five parts that hold the table are unpacked at all, in pieces and never to a disk; a
part's name is looked up in the archive and is never a path of ours.

The standard library makes an object of every entry before anybody can count them, so entries are
counted by their signatures first.

Parts are read by expat with handlers, piece by piece: there is no tree to grow. Document types are
refused, and with them every entity (XLSX has none).
"""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final
from xml.parsers import expat

from troupe.actors.data.master_errors import FileMalformed
from troupe.common.units import KiB, MiB

MAX_ENTRIES: Final = 2000
MAX_UNPACKED: Final = 512 * MiB
"""Bytes of all parts together: half a million rows of seven cells have 200 MiB."""
MAX_RATIO: Final = 150
"""Unpacked to packed bytes of one part; real sheets reach 40."""
RATIO_MATTERS: Final = 4 * MiB
"""A part that unpacks to less than this may be packed as tightly as it likes."""
MAX_SMALL_PART: Final = 4 * MiB
"""Bytes of a part that says where the others are or how cells look."""
MAX_TAG: Final = 1 * MiB
PIECE: Final = 64 * KiB

_ENTRY: Final = b"PK\x01\x02"
_ARCHIVE: Final = b"PK\x03\x04"
_OLD_WORKBOOK: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 0x1


def is_archive(content: io.BytesIO) -> bool:
    """Whether a file begins like a ZIP archive, as a workbook does and no text can."""
    return bytes(content.getbuffer()[:4]) == _ARCHIVE


class Package:
    """An archive whose directory is within the limits; close it after use.

    Args:
        content: The whole file.
        name: Of the file, for the messages.

    Raises:
        FileMalformed: It is no archive, or not one that we unpack.
    """

    def __init__(self, content: io.BytesIO, name: str) -> None:
        self._name = name
        self._left = MAX_UNPACKED
        if bytes(content.getbuffer()[:8]) == _OLD_WORKBOOK:
            raise self.malformed("is protected by a password or in Excel's format before 2007")
        if content.getvalue().count(_ENTRY) > MAX_ENTRIES:
            raise self.malformed(f"has more than {MAX_ENTRIES} parts")
        try:
            self._archive = zipfile.ZipFile(content)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            raise self.malformed("is not a workbook: it is no whole ZIP archive") from None
        self._entries = {entry.filename: entry for entry in self._archive.infolist()}
        self._check()

    def malformed(self, what: str) -> FileMalformed:
        """The error that says `what` is wrong with the file."""
        return FileMalformed(f"{self._name} {what}.")

    def close(self) -> None:
        """Let go of the archive; the content stays open."""
        self._archive.close()

    def has(self, part: str) -> bool:
        """Whether there is a part of this name."""
        return part in self._entries

    def feed(self, part: str, parser: expat.XMLParserType, most: int) -> Iterator[None]:
        """Unpack a part into an XML parser, a piece for each step.

        Args:
            part: Its name.
            parser: With the handlers that take what is in it.
            most: Bytes that the part may have.

        Raises:
            FileMalformed: It is missing, not what the archive says of it, too large, or no XML.
        """
        entry = self._entries.get(part)
        if entry is None:
            raise self.malformed(f"lacks the part {part!r}")
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        fed = 0
        try:
            with self._archive.open(entry) as stream:
                while piece := stream.read(PIECE):
                    fed += len(piece)
                    self._left -= len(piece)
                    if self._left < 0:
                        raise self._too_large()
                    if fed > most:
                        raise self.malformed(f"has a part {part!r} of more than {most} bytes")
                    parser.Parse(piece, False)
                    # expat keeps a tag until it has seen its end.
                    if fed - parser.CurrentByteIndex > MAX_TAG:
                        raise self.malformed(f"is damaged: its part {part!r} has no end of a tag")
                    yield
            parser.Parse(b"", True)
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
            raise self.malformed(f"cannot be unpacked: its part {part!r} is damaged") from None
        except (expat.ExpatError, ValueError, LookupError):
            raise self.malformed(f"is damaged: its part {part!r} is no XML") from None

    def read(self, part: str, parser: expat.XMLParserType, most: int = MAX_SMALL_PART) -> None:
        """As `feed`, in one go."""
        for _ in self.feed(part, parser, most):
            pass

    def _check(self) -> None:
        if len(self._entries) > MAX_ENTRIES:
            raise self.malformed(f"has more than {MAX_ENTRIES} parts")
        if sum(entry.file_size for entry in self._entries.values()) > MAX_UNPACKED:
            raise self._too_large()
        for entry in self._entries.values():
            if entry.flag_bits & _ENCRYPTED:
                raise self.malformed("is protected by a password")
            if entry.compress_type not in _METHODS:
                raise self.malformed("is packed in a way that workbooks are not")
            tight = entry.file_size > MAX_RATIO * max(entry.compress_size, 1)
            if tight and entry.file_size > RATIO_MATTERS:
                raise self.malformed(f"unpacks to more than {MAX_RATIO} times its size")

    def _too_large(self) -> FileMalformed:
        return self.malformed(f"unpacks to more than {MAX_UNPACKED // MiB} MiB")

    def _refuse_doctype(self, *_: object) -> None:
        raise self.malformed("is damaged: it declares a document type")


def new_parser() -> expat.XMLParserType:
    """A parser whose names are ``namespace name``, which brings text in as few calls as it can."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    return parser


def local(name: str) -> str:
    """A name without its namespace, of which workbooks have two (transitional and strict)."""
    return name.rpartition(" ")[2]


def target_of(source: str, target: str) -> str:
    """The part that a relationship of another part points at."""
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(source), target))[1:]


def relationships(package: Package, source: str) -> dict[str, tuple[str, str]]:
    """What a part points at: the relationship's id to the last word of its type and the target.

    Args:
        package: The archive.
        source: The part; empty: the archive itself.

    Raises:
        FileMalformed: The list is damaged.
    """
    folder, name = posixpath.split(source)
    part = posixpath.join(folder, "_rels", f"{name}.rels")
    found: dict[str, tuple[str, str]] = {}

    def start(element: str, attributes: dict[str, str]) -> None:
        if local(element) == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            target = target_of(source, attributes.get("Target", ""))
            found[attributes.get("Id", "")] = (kind, target)

    if package.has(part):
        parser = new_parser()
        parser.StartElementHandler = start
        package.read(part, parser)
    return found
