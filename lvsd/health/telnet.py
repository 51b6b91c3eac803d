"""The telnet protocol (RFC 854, RFC 855) as far as a probe needs it: text out, every option refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

SE, SB, WILL, WONT, DO, DONT, IAC = 240, 250, 251, 252, 253, 254, 255

_REFUSAL = {WILL: DONT, DO: WONT}
"""What says no to an offer and to a request.

WONT and DONT get no answer: with every option off they only confirm, and answering a confirmation is
how two ends fall into a loop (RFC 1143).
"""


class _Awaits(Enum):
    """What the next byte is."""

    TEXT = auto()
    COMMAND = auto()
    OPTION = auto()
    PARAMETER = auto()
    COMMAND_IN_PARAMETERS = auto()


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server's bytes come to: `text` for a person, and the `replies` that it waits for."""

    text: str
    replies: bytes


class Telnet:
    """One end of a telnet connection that wants no options.

    It may be fed in pieces of any size. An option is refused once each way, however often it is asked for.
    """

    def __init__(self) -> None:
        self._awaits = _Awaits.TEXT
        self._verb = 0
        self._refused: set[tuple[int, int]] = set()

    def hear(self, content: bytes) -> Heard:
        """Take in the server's next bytes."""
        text = bytearray()
        replies = bytearray()
        for byte in content:
            match self._awaits:
                case _Awaits.TEXT if byte == IAC:
                    self._awaits = _Awaits.COMMAND
                case _Awaits.TEXT:
                    text.append(byte)
                case _Awaits.COMMAND:
                    self._awaits = self._command(byte)
                    if byte == IAC:
                        text.append(byte)
                case _Awaits.OPTION:
                    self._awaits = _Awaits.TEXT
                    replies += self._refuse(byte)
                case _Awaits.PARAMETER if byte == IAC:
                    self._awaits = _Awaits.COMMAND_IN_PARAMETERS
                case _Awaits.PARAMETER:
                    pass
                case _Awaits.COMMAND_IN_PARAMETERS:
                    self._awaits = _Awaits.TEXT if byte == SE else _Awaits.PARAMETER
        # NUL is no operation, and follows each bare carriage return.
        return Heard(text.replace(b"\0", b"").decode("latin-1"), bytes(replies))

    def _command(self, byte: int) -> _Awaits:
        if byte == SB:
            return _Awaits.PARAMETER
        if byte in (WILL, WONT, DO, DONT):
            self._verb = byte
            return _Awaits.OPTION
        return _Awaits.TEXT

    def _refuse(self, option: int) -> bytes:
        refusal = _REFUSAL.get(self._verb)
        if refusal is None or (refusal, option) in self._refused:
            return b""
        self._refused.add((refusal, option))
        return bytes((IAC, refusal, option))
