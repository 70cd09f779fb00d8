"""A DICOM upper-layer peer that works byte by byte, so that it can also send what is not allowed.

Builds the PDUs of PS3.8 section 9.3 from parts that may each be wrong, and reads what comes back
strictly: an answer that breaks the standard is an `Answer` of kind MALFORMED, never an exception.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass, field

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLEMENTATION = "2.25.129358723946195237846193847561029384"

RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
# Longest PDU that a receiver may send us unless a case says otherwise.
OUR_MAX_PDU = 16384
# An answer longer than this is no answer.
ABSURD_BYTES = 1 << 20


def pdu(kind: int, body: bytes, *, length: int | None = None, reserved: int = 0) -> bytes:
    """A PDU with its six bytes of header (PS3.8 section 9.3.1); `length` may lie."""
    return struct.pack(">BBI", kind, reserved, len(body) if length is None else length) + body


def item(kind: int, body: bytes, *, length: int | None = None, reserved: int = 0) -> bytes:
    """An item or sub-item with its four bytes of header."""
    return struct.pack(">BBH", kind, reserved, len(body) if length is None else length) + body


def context(
    number: int,
    abstract: str | bytes | None = VERIFICATION,
    syntaxes: tuple[str | bytes, ...] | list[str] = (IMPLICIT,),
    *,
    reserved: bytes = b"\0\0\0",
    extra: bytes = b"",
    item_reserved: int = 0,
) -> bytes:
    """A presentation context item (PS3.8 table 9-13)."""
    body = bytes([number]) + reserved
    if abstract is not None:
        body += item(0x30, text(abstract), reserved=item_reserved)
    body += b"".join(item(0x40, text(syntax), reserved=item_reserved) for syntax in syntaxes)
    return item(0x20, body + extra, reserved=item_reserved)


def text(value: str | bytes) -> bytes:
    """UIDs and titles as bytes; bytes stay as they are."""
    return value if isinstance(value, bytes) else value.encode("utf-8")


def title(value: str | bytes) -> bytes:
    """Sixteen bytes of AE title, padded with spaces."""
    return text(value).ljust(16, b" ")[:16]


def max_length(value: int) -> bytes:
    """Maximum length sub-item (PS3.8 table D.1-1)."""
    return item(0x51, struct.pack(">I", value))


def user_info(*parts: bytes, max_pdu: int | None = OUR_MAX_PDU, implementation: bool = True) -> bytes:
    """The user information item with the two sub-items that every request has."""
    body = b"" if max_pdu is None else max_length(max_pdu)
    if implementation:
        body += item(0x52, IMPLEMENTATION.encode())
    return item(0x50, body + b"".join(parts))


def role(uid: str, scu: int, scp: int) -> bytes:
    """SCP/SCU role selection sub-item (PS3.7 table D.3-9)."""
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))


def extended(uid: str, data: bytes) -> bytes:
    """SOP class extended negotiation sub-item (PS3.7 table D.3-11)."""
    return item(0x56, struct.pack(">H", len(uid)) + uid.encode() + data)


def common_extended(uid: str, service: str, related: tuple[str, ...] = ()) -> bytes:
    """SOP class common extended negotiation sub-item (PS3.7 table D.3-12)."""
    listed = b"".join(struct.pack(">H", len(one)) + one.encode() for one in related)
    body = struct.pack(">H", len(uid)) + uid.encode() + struct.pack(">H", len(service)) + service.encode()
    return item(0x57, body + struct.pack(">H", len(listed)) + listed)


def identity(kind: int, positive: int, primary: bytes, secondary: bytes = b"") -> bytes:
    """User identity sub-item (PS3.7 table D.3-14)."""
    body = bytes([kind, positive]) + struct.pack(">H", len(primary)) + primary
    return item(0x58, body + struct.pack(">H", len(secondary)) + secondary)


@dataclass
class Request:
    """An A-ASSOCIATE-RQ in parts (PS3.8 table 9-11); each may be replaced by something illegal."""

    called: str | bytes
    calling: str | bytes
    contexts: list[bytes] = field(default_factory=lambda: [context(1)])
    version: int = 1
    reserved_2: bytes = b"\0\0"
    reserved_32: bytes = bytes(32)
    application: bytes = item(0x10, APPLICATION_CONTEXT.encode())
    user: bytes = field(default_factory=user_info)
    variable: bytes | None = None
    pdu_reserved: int = 0
    length: int | None = None

    def encode(self) -> bytes:
        """The PDU."""
        head = struct.pack(">H", self.version) + self.reserved_2
        head += title(self.called) + title(self.calling) + self.reserved_32
        variable = self.variable
        if variable is None:
            variable = self.application + b"".join(self.contexts) + self.user
        return pdu(RQ, head + variable, length=self.length, reserved=self.pdu_reserved)


def pdv(number: int, control: int, data: bytes, *, length: int | None = None) -> bytes:
    """A presentation data value (PS3.8 section 9.3.5.1): control 1 = command, 2 = last."""
    return struct.pack(">IBB", len(data) + 2 if length is None else length, number, control) + data


def p_data(*values: bytes, length: int | None = None) -> bytes:
    """A P-DATA-TF PDU."""
    return pdu(DATA, b"".join(values), length=length)


def release_rq(reserved: bytes = bytes(4)) -> bytes:
    """An A-RELEASE-RQ PDU."""
    return pdu(RELEASE_RQ, reserved)


def abort(source: int = 0, reason: int = 0) -> bytes:
    """An A-ABORT PDU."""
    return pdu(ABORT, bytes([0, 0, source, reason]))


def element(number: int, value: bytes, *, group: int = 0, length: int | None = None) -> bytes:
    """A command element: implicit VR little endian (PS3.7 section 6.3.1)."""
    return struct.pack("<HHI", group, number, len(value) if length is None else length) + value


def u16(value: int) -> bytes:
    """A US value."""
    return struct.pack("<H", value)


def padded(value: str | bytes, pad: bytes = b"\0") -> bytes:
    """A value of even length."""
    value = text(value)
    return value + pad if len(value) % 2 else value


def command(elements: bytes, *, group_length: int | None = None, with_length: bool = True) -> bytes:
    """A command set with its group length."""
    if not with_length:
        return elements
    return element(0, struct.pack("<I", len(elements) if group_length is None else group_length)) + elements


def echo_rq(message: int = 1, *, sop_class: str = VERIFICATION, data_set: int = 0x0101) -> bytes:
    """C-ECHO-RQ (PS3.7 table 9.3-12)."""
    return command(
        element(2, padded(sop_class))
        + element(0x100, u16(0x30))
        + element(0x110, u16(message))
        + element(0x800, u16(data_set))
    )


@dataclass
class Store:
    """C-STORE-RQ in parts (PS3.7 table 9.3-1); None leaves an element out."""

    sop_class: str | bytes | None
    sop_instance: str | bytes | None
    message: int | None = 1
    command_field: int | None = 1
    priority: int | None = 0
    data_set: int | None = 0
    originator: tuple[str, int] | None = None
    extra: bytes = b""

    def encode(self) -> bytes:
        """The command set."""
        body = b""
        if self.sop_class is not None:
            body += element(2, padded(self.sop_class))
        if self.command_field is not None:
            body += element(0x100, u16(self.command_field))
        if self.message is not None:
            body += element(0x110, u16(self.message))
        if self.priority is not None:
            body += element(0x700, u16(self.priority))
        if self.data_set is not None:
            body += element(0x800, u16(self.data_set))
        if self.sop_instance is not None:
            body += element(0x1000, padded(self.sop_instance))
        if self.originator is not None:
            body += element(0x1030, padded(self.originator[0], b" ")) + element(0x1031, u16(self.originator[1]))
        return command(body + self.extra)


@dataclass
class Accepted:
    """What an A-ASSOCIATE-AC says."""

    raw: bytes
    version: int
    called: bytes
    calling: bytes
    reserved: bytes
    application: list[str]
    # (context number, result, transfer syntaxes) in order of appearance
    results: list[tuple[int, int, list[str]]]
    user: list[tuple[int, bytes]]

    def result(self, number: int) -> int | None:
        """Result of a context, if it was answered."""
        return next((result for seen, result, _ in self.results if seen == number), None)

    def syntax(self, number: int) -> str | None:
        """Accepted transfer syntax of a context."""
        for seen, result, syntaxes in self.results:
            if seen == number and result == 0 and syntaxes:
                return syntaxes[0]
        return None

    def sub_items(self, kind: int) -> list[bytes]:
        """User sub-items of a type."""
        return [body for seen, body in self.user if seen == kind]

    @property
    def max_pdu(self) -> int:
        """Longest P-DATA-TF body that may be sent to the acceptor; 0 = no limit."""
        found = self.sub_items(0x51)
        return struct.unpack(">I", found[0])[0] if found else 0


@dataclass
class Response:
    """A DIMSE response."""

    context: int
    elements: dict[int, bytes]
    raw: bytes
    pdu_lengths: list[int]

    def number(self, key: int) -> int | None:
        """A US element."""
        value = self.elements.get(key)
        return struct.unpack("<H", value)[0] if value is not None and len(value) == 2 else None

    def uid(self, key: int) -> str | None:
        """A UID element without its padding."""
        value = self.elements.get(key)
        return None if value is None else value.rstrip(b"\0 ").decode("ascii", "replace")

    @property
    def status(self) -> int:
        """Status (0000,0900)."""
        return self.number(0x900) or 0


@dataclass
class Answer:
    """What came back.

    Kinds: AC, RJ, ABORT, RELEASE-RP, STATUS, CLOSED (orderly or reset), SILENT (nothing in time),
    MALFORMED (something that the standard does not allow).
    """

    kind: str
    detail: str = ""
    accepted: Accepted | None = None
    response: Response | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        """As the catalogue writes expectations."""
        return f"{self.kind} {self.detail}".strip()

    @property
    def pattern(self) -> str:
        """What expectations are compared with."""
        return self.kind if self.kind in ("CLOSED", "SILENT") else str(self)


class Broken(Exception):
    """The bytes from the receiver are not what the standard allows."""


class Gone(Exception):
    """The receiver closed the connection."""


class Late(Exception):
    """Nothing came in time."""


def parse_items(body: bytes) -> list[tuple[int, bytes]]:
    """Splits a variable field into its items."""
    found = []
    while body:
        if len(body) < 4:
            raise Broken(f"{len(body)} bytes after the last item")
        kind, _, length = struct.unpack(">BBH", body[:4])
        if len(body) < 4 + length:
            raise Broken(f"item {kind:02X}H is longer than what is left")
        found.append((kind, body[4 : 4 + length]))
        body = body[4 + length :]
    return found


def parse_accept(body: bytes) -> Accepted:
    """Reads an A-ASSOCIATE-AC strictly (PS3.8 section 9.3.3)."""
    if len(body) < 68:
        raise Broken("A-ASSOCIATE-AC shorter than its fixed fields")
    (version,) = struct.unpack(">H", body[:2])
    if version & 1 == 0:
        raise Broken("protocol version without bit 0")
    application, results, user = [], [], []
    users = 0
    for kind, data in parse_items(body[68:]):
        if kind == 0x10:
            application.append(data.decode("ascii", "replace"))
        elif kind == 0x21:
            if len(data) < 4:
                raise Broken("presentation context item shorter than its fixed fields")
            if data[2] > 4:
                raise Broken(f"presentation context result {data[2]}")
            syntaxes = [value.decode("ascii", "replace") for sub, value in parse_items(data[4:]) if sub == 0x40]
            if data[2] == 0 and len(syntaxes) != 1:
                raise Broken(f"an accepted context with {len(syntaxes)} transfer syntaxes")
            results.append((data[0], data[2], syntaxes))
        elif kind == 0x50:
            users += 1
            user += parse_items(data)
    if len(application) != 1:
        raise Broken(f"{len(application)} application context items")
    if application[0] != APPLICATION_CONTEXT:
        raise Broken("another application context")
    if users != 1:
        raise Broken(f"{users} user information items")
    if any(kind == 0x51 and len(data) != 4 for kind, data in user):
        raise Broken("a maximum length sub-item that is not 4 bytes")
    return Accepted(body, version, body[4:20], body[20:36], body[36:68], application, results, user)


def parse_command(raw: bytes) -> dict[int, bytes]:
    """Reads a command set strictly (PS3.7 section 6.3.1)."""
    found: dict[int, bytes] = {}
    rest, before = raw, -1
    while rest:
        if len(rest) < 8:
            raise Broken("a command element is cut")
        group, number, length = struct.unpack("<HHI", rest[:8])
        if group != 0:
            raise Broken(f"group {group:04X} in a command set")
        if number <= before:
            raise Broken(f"element {number:04X} out of order")
        if length % 2:
            raise Broken(f"element {number:04X} of odd length")
        if len(rest) < 8 + length:
            raise Broken(f"element {number:04X} is longer than what is left")
        found[number] = rest[8 : 8 + length]
        rest, before = rest[8 + length :], number
    stated = found.get(0)
    if stated is None or len(stated) != 4:
        raise Broken("no group length")
    if struct.unpack("<I", stated)[0] != len(raw) - 12:
        raise Broken("a wrong group length")
    return found


class Connection:
    """One TCP connection to the receiver; every wait is bounded."""

    def __init__(
        self, address: tuple[str, int], source: str | None, patience: float, until: float = float("inf")
    ) -> None:
        self.patience = patience
        self.until = until
        self.buffer = b""
        self.max_pdu = OUR_MAX_PDU
        self.socket = socket.create_connection(
            address, timeout=patience, source_address=(source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> bool:
        """Sends; False when the receiver has closed."""
        self.socket.settimeout(max(0.01, min(self.patience, self.until - time.monotonic())))
        try:
            self.socket.sendall(data)
        except TimeoutError as error:
            raise Late("sending") from error
        except OSError:
            return False
        return True

    def finish_sending(self) -> None:
        """Half-closes."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with RST."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def _fill(self, count: int, deadline: float) -> None:
        while len(self.buffer) < count:
            left = min(deadline, self.until) - time.monotonic()
            if left <= 0:
                raise Late("reading")
            self.socket.settimeout(left)
            try:
                # settimeout makes this wait bounded
                got = self.socket.recv(65536)
            except TimeoutError as error:
                raise Late("reading") from error
            except OSError as error:
                raise Gone("reset") from error
            if not got:
                raise Gone("in the middle of a PDU" if self.buffer else "")
            self.buffer += got

    def read_pdu(self, deadline: float) -> tuple[int, bytes]:
        """The next PDU."""
        self._fill(6, deadline)
        kind, _, length = struct.unpack(">BBI", self.buffer[:6])
        if not RQ <= kind <= ABORT:
            raise Broken(f"PDU type {kind:02X}H")
        if length > ABSURD_BYTES:
            raise Broken(f"a PDU of {length} bytes")
        self._fill(6 + length, deadline)
        body, self.buffer = self.buffer[6 : 6 + length], self.buffer[6 + length :]
        return kind, body

    def answer(self, within: float | None = None) -> Answer:
        """The next PDU or response, or what came instead of it."""
        started = time.monotonic()
        try:
            found = self._answer(started + (within or self.patience))
        except Broken as error:
            found = Answer("MALFORMED", str(error))
        except Gone as error:
            found = Answer("CLOSED", str(error))
        except Late:
            found = Answer("SILENT")
        found.seconds = time.monotonic() - started
        return found

    def _answer(self, deadline: float) -> Answer:
        kind, body = self.read_pdu(deadline)
        if kind == AC:
            return Answer("AC", accepted=parse_accept(body))
        if kind in (RJ, ABORT, RELEASE_RP):
            if len(body) != 4:
                raise Broken(f"PDU {kind} with {len(body)} bytes")
            if kind == RELEASE_RP:
                return Answer("RELEASE-RP")
            return reject(body) if kind == RJ else aborted(body)
        if kind != DATA:
            raise Broken(f"a PDU of type {kind}, which an acceptor does not send")
        return self._response(body, deadline)

    def _response(self, body: bytes, deadline: float) -> Answer:
        raw, lengths, number = b"", [], None
        while True:
            lengths.append(len(body))
            if self.max_pdu and len(body) > self.max_pdu:
                raise Broken(f"a P-DATA-TF of {len(body)} bytes where {self.max_pdu} are allowed")
            last = False
            rest = body
            while rest:
                if len(rest) < 6:
                    raise Broken("a PDV header is cut")
                length, seen, control = struct.unpack(">IBB", rest[:6])
                if length < 2 or 4 + length > len(rest):
                    raise Broken(f"a PDV of {length} bytes")
                if control & 0xFC:
                    raise Broken(f"message control header {control:02X}H")
                if control & 1 == 0:
                    raise Broken("a data fragment where a command is due")
                if last:
                    raise Broken("a fragment after the last one")
                if number is not None and seen != number:
                    raise Broken("one message on two presentation contexts")
                number, last = seen, bool(control & 2)
                raw += rest[6 : 4 + length]
                rest = rest[4 + length :]
            if number is None:
                raise Broken("a P-DATA-TF without a value")
            if last:
                break
            kind, body = self.read_pdu(deadline)
            if kind != DATA:
                raise Broken(f"PDU {kind} inside a message")
        elements = parse_command(raw)
        response = Response(number, elements, raw, lengths)
        if response.number(0x100) is None or response.number(0x800) is None:
            raise Broken("a command without command field or data set type")
        if response.number(0x800) != 0x0101:
            raise Broken("a response that announces a data set")
        if not response.number(0x100) & 0x8000:
            raise Broken(f"a request {response.number(0x100):04X}H where a response is due")
        if response.number(0x900) is None:
            raise Broken("a response without status")
        return Answer("STATUS", f"{response.status:04X}", response=response)


def reject(body: bytes) -> Answer:
    """Reads an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    _, result, source, reason = body
    allowed = {1: (1, 2, 3, 7), 2: (1, 2), 3: (1, 2)}
    detail = f"{result}/{source}/{reason}"
    if result not in (1, 2) or reason not in allowed.get(source, ()):
        raise Broken(f"A-ASSOCIATE-RJ {detail}")
    return Answer("RJ", detail)


def aborted(body: bytes) -> Answer:
    """Reads an A-ABORT (PS3.8 table 9-26)."""
    _, _, source, reason = body
    detail = f"{source}/{reason}"
    if source not in (0, 2) or (source == 2 and reason not in (0, 1, 2, 4, 5, 6)):
        raise Broken(f"A-ABORT {detail}")
    return Answer("ABORT", detail)
