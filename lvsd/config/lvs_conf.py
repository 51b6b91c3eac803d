"""lvs.conf as `configure-lvs` reads it: its lines as values, or what is wrong in them.

    LVS_TYPE=VS_DR
    VIP=eth0:101 192.168.0.101 255.255.255.0 192.168.0.0
    SERVICE=t www rr rs1:www rs2:www

Blanks around `=`, after `:` and inside of addresses (`192.168.0. 255`) are taken for what printing added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.config import values
from lvsd.config.document import MOST_MISTAKES, MOST_NOTES
from lvsd.config.model import Note
from lvsd.config.words import did_you_mean, one_of, shown
from lvsd.errors import ConfigError, Mistake, Place
from lvsd.model import SCHEDULERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.config.document import Mark

_LINE = re.compile(r"\s*([A-Za-z_]\w*)\s*=[ \t]*(.*)")
_WORD = re.compile(r"\S+(?:(?:(?<=:)[ \t]+\S+)|(?:(?<=\d\.)[ \t]+\d\S*))*")
_BLANKS = re.compile(r"[ \t]+")

_FORWARDING = {"VS_DR": "dr", "VS_NAT": "nat", "VS_TUN": "tun"}
_INITIAL = {"on": "up", "off": "probe"}
_PROTOCOLS = {"t": "tcp", "u": "udp"}
_VIP_FIELDS = ("DEVICE", "ADDRESS", "NETMASK", "BROADCAST")
_INSIDE_FIELDS = ("DEVICE", "ADDRESS", "NETWORK", "NETMASK", "BROADCAST")
_ONE_FIELD = ("one word",)
_SERVICE_WORDS = 4
_NEEDED = ("LVS_TYPE", "VIP", "SERVICE")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line, and where it begins."""

    text: str
    at: Mark


@dataclass(frozen=True, slots=True)
class Vip:
    """A `VIP` line."""

    device: Word
    address: Word
    prefix: int


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """A `SERVICE` line; `protocol` is tcp or udp."""

    protocol: Word
    port: Word
    scheduler: Word
    servers: tuple[Word, ...]


@dataclass(slots=True)
class LvsConf:
    """What the lines say. `forward` and `initial` are lvsd's words; None where a line is missing or wrong."""

    forward: Word | None = None
    initial: Word | None = None
    vips: list[Vip] = field(default_factory=list)
    services: list[ServiceLine] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def read(text: str, file: str) -> LvsConf:
    """Return what the lvs.conf `text` says."""
    reader = _Reader(file)
    for number, line in enumerate(text.splitlines(), start=1):
        reader.line(number, line.partition("#")[0])
    reader.end()
    return reader.said


def _words(text: str, line: int, column: int) -> list[Word]:
    """Return the words of `text`, which begins at that place, without the blanks that printing put in."""
    found = _WORD.finditer(text)
    return [Word(_BLANKS.sub("", word.group()), (line, column + word.start())) for word in found]


@dataclass(slots=True)
class _Reader:
    file: str
    said: LvsConf = field(default_factory=LvsConf)
    seen: dict[str, int] = field(default_factory=dict)

    def line(self, number: int, line: str) -> None:
        """Take one line, without its comment."""
        if not line.strip():
            return
        match = _LINE.match(line)
        if match is None:
            at = (number, len(line) - len(line.lstrip()) + 1)
            self._wrong(Word("", at), "", f"must be KEYWORD=value, not {shown(line.strip())}")
            return
        keyword = Word(match[1], (number, match.start(1) + 1))
        words = _words(match[2], number, match.start(2) + 1)
        take = self._keywords().get(keyword.text)
        if take is None:
            meant = did_you_mean(keyword.text, self._keywords())
            self._wrong(keyword, keyword.text, f"is no keyword of lvs.conf{meant}")
        elif not words:
            self._wrong(keyword, keyword.text, "has no value")
        else:
            take(keyword, words)
        self.seen.setdefault(keyword.text, number)

    def end(self) -> None:
        """Put down which lines are missing."""
        for keyword in _NEEDED:
            if keyword not in self.seen:
                self.said.mistakes.append(Mistake(Place(self.file), keyword, "is missing"))

    def _keywords(self) -> dict[str, Callable[[Word, list[Word]], None]]:
        return {
            "LVS_TYPE": self._lvs_type,
            "INITIAL_STATE": self._initial_state,
            "VIP": self._vip,
            "DIRECTOR_INSIDEIP": self._inside,
            "SERVICE": self._service,
            "SERVER_VIP_DEVICE": self._device,
            "SERVER_NET_DEVICE": self._device,
            "DIRECTOR_DEFAULT_GW": self._gateway,
            "DIRECTOR_GW": self._gateway,
            "SERVER_GW": self._gateway,
        }

    def _lvs_type(self, keyword: Word, words: list[Word]) -> None:
        if self._fits(keyword, words, _ONE_FIELD):
            self.said.forward = self._among(keyword, words[0], _FORWARDING)

    def _initial_state(self, keyword: Word, words: list[Word]) -> None:
        if self._fits(keyword, words, _ONE_FIELD):
            self.said.initial = self._among(keyword, words[0], _INITIAL)

    def _vip(self, keyword: Word, words: list[Word]) -> None:
        if not self._fits(keyword, words, _VIP_FIELDS, repeatable=True):
            return
        device, address, netmask, _ = words
        prefix = self._value(keyword, netmask, values.netmask)
        host = self._value(keyword, address, values.host)
        if prefix is None or host is None:
            return
        if any(vip.address.text == address.text for vip in self.said.vips):
            self._wrong(address, keyword.text, f"{address.text} is given twice")
            return
        self.said.vips.append(Vip(device, address, prefix))
        if len(self.said.vips) > 1:
            message = "every SERVICE is offered on each VIP; on this one its name ends in the VIP"
            self._note(keyword, message)

    def _inside(self, keyword: Word, words: list[Word]) -> None:
        if self._fits(keyword, words, _INSIDE_FIELDS):
            self._note(keyword, "the director's own address is the system's to set up: lvsd leaves it alone")

    def _service(self, keyword: Word, words: list[Word]) -> None:
        if len(words) < _SERVICE_WORDS:
            message = "must be t or u, PORT, SCHEDULER and REAL SERVERS, as in t www rr rs1:www rs2:www"
            self._wrong(words[0], keyword.text, message)
            return
        letter, port, scheduler, *servers = words
        protocol = self._among(keyword, letter, _PROTOCOLS)
        known = self._among(keyword, scheduler, {name: name for name in SCHEDULERS})
        ports = self._value(keyword, port, values.port)
        ends = [self._value(keyword, server, values.endpoint) for server in servers]
        if protocol is not None and known is not None and ports is not None and None not in ends:
            self.said.services.append(ServiceLine(protocol, port, known, tuple(servers)))

    def _device(self, keyword: Word, words: list[Word]) -> None:
        if self._fits(keyword, words, _ONE_FIELD):
            self._note(keyword, "concerns the real servers: nothing on the director comes from it")

    def _gateway(self, keyword: Word, _words: list[Word]) -> None:
        self._note(keyword, "routes are the system's to set up: lvsd leaves them alone")

    def _fits(
        self,
        keyword: Word,
        words: list[Word],
        fields: tuple[str, ...],
        *,
        repeatable: bool = False,
    ) -> bool:
        """Return whether the line has these fields, and is the first with its keyword."""
        if not repeatable and keyword.text in self.seen:
            self._wrong(keyword, keyword.text, f"is given twice, first on line {self.seen[keyword.text]}")
            return False
        if len(words) != len(fields):
            found = " ".join(word.text for word in words)
            self._wrong(words[0], keyword.text, f"must be {' '.join(fields)}, not {shown(found)}")
        return len(words) == len(fields)

    def _among(self, keyword: Word, word: Word, choices: dict[str, str]) -> Word | None:
        if word.text in choices:
            return Word(choices[word.text], word.at)
        meant = did_you_mean(word.text, choices)
        self._wrong(word, keyword.text, f"must be {one_of(choices)}, not {shown(word.text)}{meant}")
        return None

    def _value(self, keyword: Word, word: Word, parse: Callable[[str], values.T]) -> values.T | None:
        try:
            return parse(word.text)
        except ValueError as problem:
            self._wrong(word, keyword.text, str(problem))
            return None

    def _wrong(self, word: Word, keyword: str, message: str) -> None:
        self.said.mistakes.append(Mistake(Place(self.file, *word.at), keyword, message))
        if len(self.said.mistakes) > MOST_MISTAKES:
            raise ConfigError(self.said.mistakes)

    def _note(self, keyword: Word, message: str) -> None:
        if len(self.said.notes) < MOST_NOTES:
            self.said.notes.append(Note(Place(self.file, *keyword.at), keyword.text, message))
