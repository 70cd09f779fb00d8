"""DICOM over TLS: PS3.15 annex B.12 (BCP 195: TLS 1.2 with ECDHE and AEAD, TLS 1.3) and issue 4."""

from __future__ import annotations

import dataclasses
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

from ..dataset import LITTLE, PIXEL_DATA, encode, header, image, without
from ..peer import CR, EXPLICIT, Answer, Connection, Store, context, pdv
from ..suite import CATALOGUE, SHOULD, STORED, SUCCESS, Association, Expect, Failed, NotApplicable, Try

case = CATALOGUE.case
PROFILE = "PS3.15 B.12; RFC 9325; issue 4"
# What a handshake that was refused looks like.
REFUSED = "REFUSED"


def file(t: Try, name: str) -> Path:
    """A file of --tls-files; the case does not apply where it is missing."""
    path = (t.target.tls_files or Path()) / name
    if not path.is_file():
        raise NotApplicable(f"no {name} in --tls-files")
    return path


def settings(t: Try, who: str | None, low: ssl.TLSVersion, high: ssl.TLSVersion, ciphers: str | None) -> ssl.SSLContext:
    """A client that offers exactly this."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(file(t, "ca.crt"))
    # Old versions and suites have to be offered before they can be refused.
    made.set_ciphers(f"{ciphers or 'DEFAULT'}:@SECLEVEL=0")
    made.minimum_version, made.maximum_version = low, high
    if who is not None:
        made.load_cert_chain(file(t, f"{who}.crt"), file(t, f"{who}.key"))
    return made


def secured(
    t: Try,
    who: str | None = "peer",
    low: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    high: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str | None = None,
) -> Connection:
    """A connection after its handshake; raises `ssl.SSLError` or `OSError` where it is refused."""
    target = dataclasses.replace(t.target, port=t.target.tls_port or 0)
    made = Connection(target.address, None, target.patience, t.until)
    t.open.append(made)
    try:
        offered = settings(t, who, low, high, ciphers)
    except ssl.SSLError as error:
        raise NotApplicable(f"this Python cannot offer it: {error.reason}") from error
    made.socket = offered.wrap_socket(made.socket, server_hostname="localhost")
    t.notes["negotiated"] = f"{made.socket.version()} {(made.socket.cipher() or ('?',))[0]}"
    return made


def asked(t: Try, **how: object) -> Answer:
    """The answer to an A-ASSOCIATE-RQ in TLS, or REFUSED."""
    try:
        made = secured(t, **how)  # type: ignore[arg-type]
        made.send(request(t))
        answer = made.answer()
    except (ssl.SSLError, ConnectionError) as error:
        answer = Answer(REFUSED, getattr(error, "reason", None) or "closed")
    if answer.kind == "CLOSED":
        answer = Answer(REFUSED, "closed")
    return t.saw(answer)


def request(t: Try, contexts: list[bytes] | None = None) -> bytes:
    """An A-ASSOCIATE-RQ from the AE title that the certificate is for."""
    calling = t.target.tls_ae or t.calling
    contexts = contexts or [context(1), context(3, CR, (EXPLICIT,))]
    return t.request(calling=calling, contexts=contexts).encode()


def associated(t: Try, **how: object) -> Association:
    """An association in TLS."""
    try:
        connection = secured(t, **how)  # type: ignore[arg-type]
    except (ssl.SSLError, ConnectionError) as error:
        raise Failed(f"the handshake failed: {error}") from error
    connection.send(request(t))
    answer = t.saw(connection.answer())
    if answer.accepted is None:
        raise Failed(f"no association: {answer}")
    return Association(t, connection, answer.accepted)


def served(t: Try) -> None:
    """The TLS port works."""
    made = associated(t)
    t.match(made.echo(), SUCCESS)
    made.release()


def accepted(number: str, title: str, sends: str, severity: str | None = None, **how: object) -> None:
    """A handshake that has to work, and an object through it."""

    def run(t: Try) -> None:
        made = associated(t, **how)
        t.match(made.echo(), SUCCESS)
        if made.accepted.result(3) == 0:
            t.match(made.store_image(), STORED)
        made.release()

    case(number, title, PROFILE, sends, "AC; STATUS 0000 twice; RELEASE-RP", needs=("tls-port",), generic_severity=severity)(run)


def refused(number: str, title: str, sends: str, expect: Expect, **how: object) -> None:
    """A handshake that must not lead to an association."""

    def run(t: Try) -> None:
        t.match(asked(t, **how), expect)
        served(t)

    case(number, title, PROFILE, sends, f"{expect}; others are served", needs=("tls-port",), generic_severity=SHOULD)(run)


V10, V11, V12, V13 = (
    ssl.TLSVersion.TLSv1,
    ssl.TLSVersion.TLSv1_1,
    ssl.TLSVersion.TLSv1_2,
    ssl.TLSVersion.TLSv1_3,
)
NO = Expect((f"{REFUSED}*",))
accepted("TL-001", "TLS 1.3", "TLS 1.3 only, with a client certificate; C-ECHO, C-STORE", SHOULD, low=V13, high=V13)
for number, name, suites in (
    ("TL-002", "ECDHE with AES-256-GCM", "ECDHE+AESGCM+AES256"),
    ("TL-003", "ECDHE with AES-128-GCM", "ECDHE+AESGCM+AES128"),
    ("TL-004", "ECDHE with ChaCha20-Poly1305", "ECDHE+CHACHA20"),
):
    accepted(number, f"TLS 1.2, {name}", f"TLS 1.2 only, {name}; C-ECHO, C-STORE", SHOULD, low=V12, high=V12, ciphers=suites)
for number, name, suites in (
    ("TL-005", "CBC with SHA-256", "ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA256"),
    ("TL-006", "CBC with SHA-1", "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA"),
    ("TL-007", "RSA key exchange", "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA"),
    ("TL-008", "no authentication", "aNULL"),
    ("TL-009", "no encryption", "eNULL"),
):
    refused(number, f"TLS 1.2, {name} is refused", f"TLS 1.2 only, {name}", NO, low=V12, high=V12, ciphers=suites)
refused("TL-010", "TLS 1.1 is refused", "TLS 1.1 only", NO, low=V11, high=V11, ciphers="ALL")
refused("TL-011", "TLS 1.0 is refused", "TLS 1.0 only", NO, low=V10, high=V10, ciphers="ALL")
refused("TL-012", "No client certificate", "TLS 1.3, no client certificate", NO, who=None)
refused("TL-013", "No client certificate in TLS 1.2", "TLS 1.2, no client certificate", NO, who=None, high=V12)
refused("TL-014", "A client certificate of a foreign CA", "foreign.crt", NO, who="foreign")
refused("TL-015", "An expired client certificate", "expired.crt", NO, who="expired")
refused("TL-016", "A revoked client certificate", "revoked.crt", NO, who="revoked")
refused(
    "TL-017",
    "A valid certificate of another AE title",
    "other.crt, calling AE title of peer.crt",
    Expect((f"{REFUSED}*", "RJ ?/1/?"), ("RJ 1/1/3",)),
    who="other",
)

for number, what, data in (
    ("TL-018", "DICOM in clear", None),
    ("TL-019", "HTTP in clear", b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n"),
    ("TL-020", "a record of FFFFH bytes", b"\x16\3\1\xff\xff" + bytes(100)),
    ("TL-021", "random bytes", b"\x93\x11\x02\x77" * 64),
):

    @case(number, f"On the TLS port: {what}", PROFILE, what, "no AC: closed, an alert, or nothing", needs=("tls-port",))
    def _(t: Try, data: bytes | None = data) -> None:
        made = Connection((t.target.host, t.target.tls_port or 0), None, t.target.patience, t.until)
        t.open.append(made)
        made.send(request(t) if data is None else data)
        answer = t.saw(made.answer(2))
        t.check(answer.kind in ("CLOSED", "MALFORMED", "SILENT"), f"answered by {answer}")
        served(t)


@case("TL-022", "24 handshakes that stop half-way", "issue 4: slow loris", "24 connections with half a ClientHello; C-ECHO on another", "STATUS 0000", needs=("tls-port",), generic_severity=SHOULD)
def _(t: Try) -> None:
    for _ in range(24):
        made = Connection((t.target.host, t.target.tls_port or 0), None, t.target.patience, t.until)
        t.open.append(made)
        made.send(b"\x16\3\1\2\0\1\0\1\xfc\3\3")
    served(t)


@case("TL-023", "Cut off in the middle of an object", "RFC 8446 6.1: no close_notify; issue 4", "C-STORE-RQ, half its data, RST", "others are served; with a control socket: no object", needs=("tls-port",))
def _(t: Try) -> None:
    made = associated(t)
    instance = t.uid()
    made.send(pdv(3, 3, Store(CR, instance).encode()))
    made.send(pdv(3, 0, bytes(200)))
    made.connection.reset()
    served(t)
    if t.target.control is not None and t.target.tls_ae is None:
        t.check(not t.ask("studies"), "an object that was never complete is listed")


@case("TL-024", "An object of 8 MiB", PROFILE, "C-STORE with 8 MiB of pixel data in TLS 1.3", "STATUS 0000", needs=("tls-port",))
def _(t: Try) -> None:
    made = associated(t)
    instance = t.uid()
    size = 8 << 20
    data = encode(without(image(instance, t.uid()), PIXEL_DATA), EXPLICIT)
    data += header(PIXEL_DATA, "OW", size, LITTLE) + bytes(size)
    t.match(made.store(data, instance), STORED)
    made.release()


@case("TL-025", "A ClientHello byte by byte, then the rest at once", "RFC 8446 5.1: records are a stream", "a whole handshake in one-byte writes", "AC", needs=("tls-port",))
def _(t: Try) -> None:
    made = Connection((t.target.host, t.target.tls_port or 0), None, t.target.patience, t.until)
    t.open.append(made)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = settings(t, "peer", V12, V13, None).wrap_bio(incoming, outgoing, server_hostname="localhost")

    def step(act: Callable[[], object]) -> object:
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                _drip(made, outgoing.read())
                made._fill(len(made.buffer) + 1, t.until)
                incoming.write(made.buffer)
                made.buffer = b""

    try:
        step(tls.do_handshake)
        tls.write(request(t))
        _drip(made, outgoing.read())
        head = step(lambda: tls.read(6))
    except (ssl.SSLError, OSError) as error:
        raise Failed(f"refused: {error}") from error
    t.check(isinstance(head, bytes) and struct.unpack(">BBI", head)[0] == 2, f"answered by {head!r}")


def _drip(made: Connection, data: bytes) -> None:
    for byte in data:
        made.send(bytes([byte]))
