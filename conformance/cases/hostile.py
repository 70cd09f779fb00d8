"""Hostile and broken peers: what they cost, and whether others are served meanwhile."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..dataset import encode, image
from ..peer import (
    CR,
    EXPLICIT,
    Connection,
    Store,
    context,
    echo_rq,
    identity,
    item,
    p_data,
    pdu,
    pdv,
    user_info,
)
from ..suite import (
    ANSWERED,
    CATALOGUE,
    ENDED,
    HANDLED,
    PROVIDER_ABORT,
    REFUSED,
    SHOULD,
    SUCCESS,
    Expect,
    Failed,
    NotApplicable,
    Try,
    closed_within,
    quiet,
)
from .storage import rss_kb

case = CATALOGUE.case
SOURCES = [f"127.0.0.{n}" for n in range(2, 10)]
# Time for one exchange on loopback when nothing is wrong; a bound, not a measurement.
AT_ONCE_S = 2.0


def client_hello(version: bytes, extra: bytes = b"") -> bytes:
    """A TLS ClientHello (RFC 8446 section 4.1.2) with one cipher suite."""
    body = version + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extra)) + extra
    hello = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(hello)) + hello


OTHERS = (
    ("HTTP GET", b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n"),
    ("HTTP POST", b"POST /studies HTTP/1.1\r\nHost: pacs\r\nContent-Length: 5\r\n\r\nhello"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    ("TLS 1.0 ClientHello", client_hello(b"\3\1")),
    ("TLS 1.2 ClientHello", client_hello(b"\3\3")),
    ("TLS 1.3 ClientHello", client_hello(b"\3\3", b"\0\x2b\0\3\2\3\4")),
    ("SSL 2 ClientHello", b"\x80\x2e\1\0\2\0\x15\0\0\0\x10" + bytes(37)),
    ("HL7 in MLLP", b"\x0bMSH|^~\\&|LAB|WARD|||20200101||ADT^A01|1|P|2.5\rPID|1||4711\r\x1c\r"),
    ("SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("SMB negotiate", b"\0\0\0\x54\xffSMBr" + bytes(78)),
    ("RDP connection request", b"\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0"),
    ("LDAP bind", b"\x30\x0c\2\1\1\x60\7\2\1\3\4\0\x80\0"),
    ("Redis PING", b"*1\r\n$4\r\nPING\r\n"),
    ("SIP OPTIONS", b"OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/TCP nm\r\n\r\n"),
    ("PROXY protocol 1", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 104\r\n"),
    ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)),
    ("DNS over TCP", b"\0\x1d\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"),
    ("MQTT connect", b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0"),
    ("PostgreSQL startup", b"\0\0\0\x08\4\xd2\x16\x2f"),
    ("telnet negotiation", b"\xff\xfd\1\xff\xfd\x1f"),
    ("an empty line", b"\r\n\r\n"),
    ("one byte of zero", b"\0"),
    ("64 KiB of zeros", bytes(65536)),
    ("64 KiB of FFH", b"\xff" * 65536),
)
for offset, (name, data) in enumerate(OTHERS):
    expect = Expect(ENDED)

    @case(
        f"HP-{1 + offset:03}",
        f"{name} on the DICOM port",
        "PS3.8 9.2.3: Sta2, AA-1; fo-dicom#1678; issue 4: closed at once",
        f"{name}, the connection kept open",
        f"{expect}; cloister: within {AT_ONCE_S:.0f} s",
        generic_severity=SHOULD,
    )
    def _(t: Try, data: bytes = data) -> None:
        connection = t.connect()
        connection.send(data)
        answer = t.match(connection.answer(), ENDED)
        if answer.kind == "ABORT":
            connection.finish_sending()
            t.check(closed_within(connection, t.target.patience) is not None, "aborted, but not closed")
        t.check(not t.cloister or answer.seconds < AT_ONCE_S, f"after {answer.seconds:.1f} s")
        t.alive()


@case("HP-025", "A hundred connections of random bytes", "PS3.8 9.2.3: Sta2, AA-1", "100 connections, 1 to 200 random bytes each, half-closed", "ABORT, RJ or CLOSED each; others are served")
def _(t: Try) -> None:
    for _ in range(100):
        data = t.random.randbytes(t.random.randrange(1, 200))
        t.match(t.reply(data, finish=True), ANSWERED)
    t.alive()


# --- lengths that lie ----------------------------------------------------------------------------------

LENGTHS = "PS3.8 9.3.1, AA-1/AA-8; fo-dicom#1678, GDCM CVE-2026-3650; issue 4"
for number, what, length in ((26, "FFFFFFF0H", 0xFFFFFFF0), (27, "80000000H", 0x80000000), (28, "1 GiB", 1 << 30)):

    @case(
        f"HP-{number:03}",
        f"A-ASSOCIATE-RQ with PDU length {what}",
        LENGTHS,
        f"a correct request whose length says {what}, the connection kept open",
        f"ABORT, RJ or CLOSED without waiting for the bytes; cloister: within {AT_ONCE_S:.0f} s",
        generic_severity=SHOULD,
    )
    def _(t: Try, length: int = length) -> None:
        answer = t.match(t.reply(t.request(length=length).encode()), REFUSED)
        t.notes["seconds"] = round(answer.seconds, 4)
        t.check(not t.cloister or answer.seconds < AT_ONCE_S, f"after {answer.seconds:.1f} s")
        t.alive()


for number, what, kind, length in (
    (29, "P-DATA-TF of FFFFFFF0H bytes", 4, 0xFFFFFFF0),
    (30, "P-DATA-TF of 80000000H bytes", 4, 0x80000000),
    (31, "A-RELEASE-RQ of FFFFFFF0H bytes", 5, 0xFFFFFFF0),
    (32, "A-ABORT of FFFFFFF0H bytes", 7, 0xFFFFFFF0),
    (33, "A-ASSOCIATE-AC of FFFFFFF0H bytes", 2, 0xFFFFFFF0),
    (34, "a PDU of type 99H with FFFFFFF0H bytes", 0x99, 0xFFFFFFF0),
):

    @case(
        f"HP-{number:03}",
        f"{what} on an established association",
        LENGTHS,
        f"the header of {what} and 20 bytes, the connection kept open",
        f"ABORT or CLOSED without waiting for the bytes; cloister: within {AT_ONCE_S:.0f} s",
        generic_severity=SHOULD,
    )
    def _(t: Try, kind: int = kind, length: int = length) -> None:
        made = t.associate([context(1)])
        made.connection.send(pdu(kind, bytes(20), length=length))
        answer = t.match(made.answer(), Expect(ENDED, ENDED if kind == 7 else PROVIDER_ABORT))
        t.check(not t.cloister or answer.seconds < AT_ONCE_S, f"after {answer.seconds:.1f} s")
        made.connection.close()
        t.alive()


BIG = (
    ("an A-ASSOCIATE-RQ of 1 MiB of contexts", lambda t: t.request(contexts=[context(1)] * 27_000), REFUSED),
    ("an A-ASSOCIATE-RQ with 5,000 contexts", lambda t: t.request(contexts=[context(1 + 2 * (n % 128)) for n in range(5000)]), ANSWERED),
    ("a user identity of 60,000 bytes", lambda t: t.request(user=user_info(identity(4, 0, b"A" * 60_000))), ANSWERED),
    ("16,000 empty user sub-items", lambda t: t.request(user=user_info(*[item(0x7A, b"")] * 16_000)), ANSWERED),
    ("7,000 transfer syntaxes in one context", lambda t: t.request(contexts=[context(1, syntaxes=["1.2.3"] * 7_000)]), ANSWERED),
    ("an abstract syntax of 65,000 characters", lambda t: t.request(contexts=[context(1, "1" * 65_000)]), ANSWERED),
    ("10,000 items of unknown type", lambda t: _unknown(t, 10_000), ANSWERED),
)
for offset, (what, build, allowed) in enumerate(BIG):

    @case(
        f"HP-{35 + offset:03}",
        f"Large: {what}",
        "PS3.8 9.3.2; io-dicom#40: bounded memory and time",
        what,
        str(Expect(allowed)),
        generic_severity=SHOULD,
    )
    def _(t: Try, build: Callable[[Try], object] = build, allowed: tuple[str, ...] = allowed) -> None:
        connection = t.connect()
        connection.send(build(t).encode())  # type: ignore[attr-defined]
        t.match(connection.answer(), allowed)
        connection.close()
        t.alive()


def _unknown(t: Try, count: int) -> object:
    made = t.request()
    made.variable = made.application + b"".join(made.contexts) + item(0x6F, b"xx") * count + made.user
    return made


# --- floods -----------------------------------------------------------------------------------------------


@case("HP-042", "20,000 empty fragments", "PS3.8 annex E.1: bounded memory", "20,000 PDVs without data, then a C-ECHO-RQ", "STATUS 0000, ABORT or CLOSED; others are served")
def _(t: Try) -> None:
    made = t.associate([context(1)])
    for _ in range(20):
        if not made.connection.send(p_data(*[pdv(1, 1, b"")] * 1000)):
            break
    made.send(pdv(1, 3, echo_rq()))
    t.match(made.answer(), (*SUCCESS, *ENDED))
    made.connection.close()
    t.alive()


@case("HP-043", "A command that never ends", "PS3.7 6.3.1: bounded memory", "8 MiB of command fragments, none marked last", "ABORT or CLOSED, or nothing; others are served; cloister: ABORT")
def _(t: Try) -> None:
    made = t.associate([context(1)])
    for _ in range(512):
        if not made.send(pdv(1, 1, bytes(16_000))):
            break
    t.match(made.connection.answer(2), Expect((*ENDED, "SILENT"), ENDED))
    made.connection.close()
    t.alive()


@case("HP-044", "A peer that never reads its responses", "bounded memory: others are served", "up to 20,000 C-ECHO-RQ without reading, then a C-ECHO on another association", "the other association: STATUS 0000")
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.connection.socket.settimeout(0.2)
    block = p_data(pdv(1, 3, echo_rq())) * 100

    def flood() -> None:
        for _ in range(200):
            made.connection.socket.sendall(block)

    quiet(flood)
    t.alive()
    made.connection.close()
    t.alive()


@case("HP-045", "Random PDUs on an established association", "PS3.8 9.2.3: AA-8", "100 associations, a PDU of random type and content on each", "any answer, ABORT or CLOSED; others are served", limit=90.0)
def _(t: Try) -> None:
    for _ in range(100):
        made = t.associate([context(1)])
        made.connection.send(pdu(t.random.randrange(9), t.random.randbytes(t.random.randrange(64))))
        made.connection.finish_sending()
        t.match(made.answer(), ("RELEASE-RP", *HANDLED))
        made.connection.close()
    t.alive()


@case("HP-046", "Random values in P-DATA-TF", "PS3.8 9.3.5: AA-8", "100 associations, a P-DATA-TF with a random command set on each", "any status, ABORT or CLOSED; others are served", limit=90.0)
def _(t: Try) -> None:
    for _ in range(100):
        made = t.associate([context(1)])
        made.send(pdv(1, t.random.randrange(4), t.random.randbytes(t.random.randrange(80))))
        made.connection.finish_sending()
        t.match(made.answer(), HANDLED)
        made.connection.close()
    t.alive()


@case("HP-047", "Each byte of a C-ECHO-RQ set to FFH in turn", "PS3.7 6.3.1: AA-8", "68 associations, one byte of the command set changed on each", "any status, ABORT or CLOSED; others are served", limit=60.0)
def _(t: Try) -> None:
    whole = echo_rq()
    for at in range(len(whole)):
        made = t.associate([context(1)])
        made.send(pdv(1, 3, whole[:at] + b"\xff" + whole[at + 1 :]))
        made.connection.finish_sending()
        answer = made.answer()
        t.got = f"byte {at}: {answer}"
        t.match(answer, HANDLED)
        made.connection.close()
    t.alive()


@case("HP-048", "Each byte of a C-STORE-RQ set to FFH in turn", "PS3.7 6.3.1: AA-8", "an association for each byte of the command set, one byte changed", "any status, ABORT or CLOSED; others are served", limit=90.0)
def _(t: Try) -> None:
    instance = t.uid()
    data = encode(image(instance, t.uid()), EXPLICIT)
    whole = Store(CR, instance).encode()
    for at in range(len(whole)):
        made = t.storing()
        made.send(pdv(3, 3, whole[:at] + b"\xff" + whole[at + 1 :]), pdv(3, 2, data))
        made.connection.finish_sending()
        answer = made.answer()
        t.got = f"byte {at}: {answer}"
        t.match(answer, HANDLED)
        made.connection.close()
    t.alive()


# --- connections --------------------------------------------------------------------------------------------

PROBES = "pynetdicom#669: load balancers and port scanners"
for number, what, count, act in (
    (49, "closed at once", 200, lambda c: c.close()),
    (50, "reset at once", 200, lambda c: c.reset()),
    (51, "closed after three bytes", 100, lambda c: (c.send(b"\1\0\0"), c.close())),
    (52, "reset after half a request", 100, lambda c: (c.send(b"\1\0\0\0\0\xc8" + bytes(90)), c.reset())),
):

    @case(
        f"HP-{number:03}",
        f"{count} connections {what}",
        PROBES,
        f"{count} connections one after the other, each {what}",
        "others are served",
        when="alone",
    )
    def _(t: Try, count: int = count, act: Callable[[Connection], object] = act) -> None:
        for _ in range(count):
            act(t.connect())
        t.served_again()


@case("HP-053", "A reset before the acceptance is read", PROBES, "100 requests, each followed by RST at once", "others are served", when="alone")
def _(t: Try) -> None:
    data = t.request().encode()
    for _ in range(100):
        connection = t.connect()
        connection.send(data)
        connection.reset()
    t.served_again()


def fds(pid: int) -> int:
    """Open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


HALF_OPEN = "issue 4: slow loris; anchors: three of five receivers stop at 30"
for number, what, data in (
    (54, "say nothing", b""),
    (55, "sent one byte", b"\1"),
    (56, "sent half a request", None),
):

    @case(
        f"HP-{number:03}",
        f"24 connections that {what}, then C-ECHO",
        HALF_OPEN,
        f"24 open connections that {what}; a C-ECHO on a new association",
        "STATUS 0000",
        when="alone",
        generic_severity=SHOULD,
    )
    def _(t: Try, data: bytes | None = data) -> None:
        held = [t.connect() for _ in range(24)]
        for connection in held:
            connection.send(t.request().encode()[:60] if data is None else data)
        t.notes["seconds"] = round(t.alive(), 3)


@case("HP-057", "24 idle associations, then C-ECHO", HALF_OPEN, "24 established associations on which nothing happens; a C-ECHO on a new one", "STATUS 0000", when="alone", generic_severity=SHOULD)
def _(t: Try) -> None:
    held = [t.associate([context(1)]) for _ in range(24)]
    t.notes["seconds"] = round(t.alive(), 3)
    for made in held:
        made.usable()


@case("HP-058", "24 objects that stop half-way, then C-ECHO", HALF_OPEN, "24 associations with half a data set; a C-ECHO on a new one", "STATUS 0000", when="alone", generic_severity=SHOULD)
def _(t: Try) -> None:
    for _ in range(24):
        made = t.storing()
        made.send(pdv(3, 3, Store(CR, t.uid()).encode()))
        made.send(pdv(3, 0, bytes(100)))
    t.notes["seconds"] = round(t.alive(), 3)


# --- the slow part -------------------------------------------------------------------------------------------


class Crowd:
    """Many hostile connections at once, driven by one thread."""

    def __init__(self, t: Try, sources: list[str], count: int) -> None:
        self.t, self.sources, self.count = t, sources, count
        self.sockets: list[socket.socket] = []
        self.refused = 0
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def open(self) -> None:
        """Opens them all."""
        for at in range(self.count):
            one = socket.socket()
            one.setblocking(False)
            try:
                one.bind((self.sources[at % len(self.sources)], 0))
                one.connect_ex(self.t.target.address)
            except OSError:
                self.refused += 1
                one.close()
                continue
            self.sockets.append(one)
        select.select([], self.sockets[:1], [], 1.0)

    def drip(self, data: bytes) -> None:
        """One byte a second on each, from a thread."""

        def run() -> None:
            for byte in data:
                for one in self.sockets:
                    quiet(lambda one=one, byte=byte: one.send(bytes([byte])))
                if self.stop.wait(1.0):
                    return

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def still_open(self) -> int:
        """Connections that the receiver has not closed."""
        count = 0
        for one in self.sockets:
            try:
                count += one.recv(4096) != b"" and 0
            except BlockingIOError:
                count += 1
            except OSError:
                continue
        return count

    def close(self) -> None:
        """Closes them all."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join()
        for one in self.sockets:
            one.close()


def p99_of_echoes(t: Try, count: int, source: str | None = None, pause: float = 0.0) -> tuple[float, int]:
    """99th percentile of associate, echo and release in seconds, and how many failed."""
    times, failed = [], 0
    for _ in range(count):
        try:
            times.append(t.alive(source))
        except Failed:
            failed += 1
            times.append(t.target.patience)
            if failed > 10:
                break
        if pause:
            t_wait(pause)
    times.sort()
    return times[max(0, -(-99 * len(times) // 100) - 1)], failed


def t_wait(seconds: float) -> None:
    """Spreads measurements over time; nothing depends on its length."""
    threading.Event().wait(seconds)


def crowded(
    number: str, title: str, sends: str, sources: list[str], *, drip: bool = False, echo_from: tuple[str | None, ...] = (None,), **more: object
) -> None:
    """C-ECHO while a crowd holds connections."""

    def run(t: Try) -> None:
        before = rss_kb(t.target.pid) if t.target.pid else 0
        idle, _ = p99_of_echoes(t, 50)
        crowd = Crowd(t, sources, 1000)
        try:
            crowd.open()
            if drip:
                crowd.drip(t.request().encode()[:40])
            worst, failures = 0.0, 0
            for source in echo_from:
                p99, failed = p99_of_echoes(t, 200, source, 0.05)
                worst, failures = max(worst, p99), failures + failed
            t.notes["p99_ms"] = round(1000 * worst, 1)
            t.notes["p99_idle_ms"] = round(1000 * idle, 1)
            t.notes["failed"] = failures
            t.notes["still_open"] = crowd.still_open()
            if t.target.pid:
                t.notes["rss_growth_kib"] = rss_kb(t.target.pid) - before
        finally:
            crowd.close()
        t.got = f"p99 {1000 * worst:.0f} ms, {failures} failed"
        t.check(failures == 0, f"{failures} C-ECHO failed")
        t.check(worst <= 0.1, f"p99 of C-ECHO is {1000 * worst:.0f} ms")

    case(number, title, HALF_OPEN, sends, "C-ECHO p99 at most 100 ms, none fails", slow=True, when="alone", limit=240.0, generic_severity=SHOULD, **more)(run)


crowded("HP-059", "1,000 half-open connections from eight addresses", "1,000 silent connections from 127.0.0.2 to 127.0.0.9; 200 C-ECHO from 127.0.0.1", SOURCES)
crowded("HP-060", "1,000 clients of one byte a second from eight addresses", "1,000 connections that send a request byte by byte from 127.0.0.2 to 127.0.0.9; 200 C-ECHO from 127.0.0.1", SOURCES, drip=True)
crowded("HP-061", "1,000 half-open connections from one address", "1,000 silent connections from 127.0.0.2; 200 C-ECHO from each of 127.0.0.1 and 127.0.0.3", SOURCES[:1], echo_from=(None, "127.0.0.3"))
crowded("HP-062", "1,000 clients of one byte a second from one address", "1,000 connections that send a request byte by byte from 127.0.0.2; 200 C-ECHO from 127.0.0.1", SOURCES[:1], drip=True)


@case("HP-063", "One address at its limit is told so, and served again when it lets go", "PS3.8 table 9-21: 2/3/2; issue 4", "1,000 silent connections from 127.0.0.2, a request from there, close all, C-ECHO from there", "RJ 2/3/*, AC or CLOSED; afterwards STATUS 0000; cloister: RJ 2/3/2 or CLOSED", slow=True, when="alone", limit=120.0, generic_severity=SHOULD)
def _(t: Try) -> None:
    crowd = Crowd(t, SOURCES[:1], 1000)
    try:
        crowd.open()
        p99_of_echoes(t, 5)
        connection = t.connect(SOURCES[0])
        connection.send(t.request().encode())
        t.match(connection.answer(), Expect(("RJ 2/3/?", "AC", *ENDED), ("RJ 2/3/2", "CLOSED")))
    finally:
        crowd.close()
    t.served_again(SOURCES[0])


@case("HP-064", "A request of one byte a second is cut off", "PS3.8 9.1.4: ARTIM timer", "an A-ASSOCIATE-RQ, one byte a second", "CLOSED or ABORT within 60 s", slow=True, limit=90.0, generic_severity=SHOULD)
def _(t: Try) -> None:
    connection = t.connect()
    data = t.request().encode()
    started = time.monotonic()
    for byte in data[:60]:
        if not connection.send(bytes([byte])):
            break
        if closed_within(connection, 1.0) is not None:
            break
    else:
        raise Failed("still open after 60 s")
    t.notes["closed_after_s"] = round(time.monotonic() - started, 1)


@case("HP-065", "An association on which nothing happens is ended", "PS3.8 9.2; issue 4: idle limit", "an established association, then nothing", "ABORT or CLOSED within 120 s", severity=SHOULD, slow=True, limit=150.0)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    t.match(made.answer(120), ENDED)


@case("HP-066", "An object of one byte a second holds up nobody", HALF_OPEN, "a data set in P-DATA-TF of two bytes a second for 15 s; C-ECHO meanwhile", "C-ECHO: STATUS 0000 each", slow=True, limit=60.0)
def _(t: Try) -> None:
    made = t.storing()
    made.send(pdv(3, 3, Store(CR, t.uid()).encode()))
    data = encode(image(t.uid(), t.uid()), EXPLICIT)
    for at in range(0, 30, 2):
        if not made.send(pdv(3, 0, data[at : at + 2])):
            break
        t.alive()
        t_wait(1.0)


@case("HP-067", "A PDU length of 4 GB is aborted within 100 ms", LENGTHS, "20 requests and 20 P-DATA-TF of FFFFFFF0H bytes", "ABORT or CLOSED; median at most 100 ms; with --pid: RSS grows by at most 1 MiB", slow=True, when="alone", limit=120.0, generic_severity=SHOULD)
def _(t: Try) -> None:
    before = rss_kb(t.target.pid) if t.target.pid else 0
    times = []
    for _ in range(20):
        answer = t.match(t.reply(t.request(length=0xFFFFFFF0).encode()), REFUSED)
        times.append(answer.seconds)
        made = t.associate([context(1)])
        made.connection.send(pdu(4, bytes(20), length=0xFFFFFFF0))
        times.append(t.match(made.answer(), ENDED).seconds)
        made.connection.close()
    times.sort()
    t.notes["median_ms"] = round(1000 * times[20], 1)
    t.notes["worst_ms"] = round(1000 * times[-1], 1)
    t.check(times[20] <= 0.1, f"median {1000 * times[20]:.0f} ms")
    if t.target.pid:
        growth = rss_kb(t.target.pid) - before
        t.notes["rss_growth_kib"] = growth
        t.check(growth <= 1024, f"RSS grew by {growth} KiB")


@case("HP-068", "10,000 connections opened and closed", PROBES, "10,000 connections one after the other", "others are served; with --pid: RSS grows by at most 8 MiB, file descriptors come back", slow=True, when="alone", limit=180.0, generic_severity=SHOULD)
def _(t: Try) -> None:
    pid = t.target.pid
    before = (rss_kb(pid), fds(pid)) if pid else (0, 0)
    for _ in range(10_000):
        t.connect().close()
        t.open.clear()
    t.served_again()
    if pid:
        deadline = time.monotonic() + 20
        while fds(pid) > before[1] + 2 and time.monotonic() < deadline:
            t_wait(0.1)
        t.notes["rss_growth_kib"] = rss_kb(pid) - before[0]
        t.check(fds(pid) <= before[1] + 2, f"{fds(pid) - before[1]} file descriptors more")
        t.check(rss_kb(pid) - before[0] <= 8192, f"RSS grew by {rss_kb(pid) - before[0]} KiB")


@case("HP-069", "Unfinished requests of 64 KiB cost little", "io-dicom#40; issue 4: at most 1 MB for any request of 64 KB", "24 requests of 64 KiB without their last byte, held open", "others are served; with --pid: RSS grows by at most 1 MiB for each", slow=True, when="alone", limit=60.0, generic_severity=SHOULD)
def _(t: Try) -> None:
    if t.target.pid is None:
        raise NotApplicable("no process id")
    before = rss_kb(t.target.pid)
    data = t.request(user=user_info(identity(4, 0, b"A" * 60_000))).encode()[:-1]
    for _ in range(24):
        t.connect().send(data)
    t.alive()
    growth = rss_kb(t.target.pid) - before
    t.notes["rss_growth_kib"] = growth
    t.check(growth <= 24 * 1024, f"RSS grew by {growth} KiB")


@case("HP-070", "After everything the receiver is as it was", "issue 4", "C-ECHO and C-STORE", "STATUS 0000 each", when="last")
def _(t: Try) -> None:
    t.alive()
    made = t.storing()
    t.match(made.store_image(), ("STATUS 0000", "STATUS B0*"))
    made.after(t.match(made.echo(), SUCCESS))
