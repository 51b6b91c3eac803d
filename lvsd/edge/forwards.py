"""A log's lines from its beginning, compressed or not, in memory that depends on nothing in it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import IO, TYPE_CHECKING, Final, cast

from lvsd.edge.backwards import BLOCK, LONGEST, TOO_LONG
from lvsd.edge.excerpt import NoLogError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"


class DamagedError(Exception):
    """A compressed file is cut off or damaged; its text says how."""


def unpacked(file: IO[bytes], name: str) -> IO[bytes]:
    """Return what `file` holds, decompressed where its first bytes say that it is compressed.

    Raise NoLogError where it is compressed in a way that cannot be read here.
    """
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))
    magic = buffered.peek(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(buffered)
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(buffered)
    if magic.startswith(_ZSTANDARD):
        message = f"{name} is compressed by zstd: let `zstd -dc {name} | lvsd history --log -` read it"
        raise NoLogError(message)
    return buffered


def lines_forwards(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of `file`; raise DamagedError where no more can be read of it.

    What is left of a line that is too long for one of lvsd's is passed over.
    """
    rest = b""
    while block := _read(file):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        if len(rest) > LONGEST:
            rest = TOO_LONG
    if rest:
        yield rest


def _read(file: IO[bytes]) -> bytes:
    try:
        return file.read(BLOCK)
    except EOFError:
        message = "it is cut off"
        raise DamagedError(message) from None
    except (zlib.error, lzma.LZMAError) as error:
        raise DamagedError(str(error)) from None
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from None
