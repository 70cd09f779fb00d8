"""DIMSE messages: PS3.7 sections 6.3, 9 and annexes C and E, and how PDVs carry them (PS3.8 annex E)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..dataset import LITTLE, encode, image, sequence, string
from ..peer import (
    CR,
    EXPLICIT,
    VERIFICATION,
    Store,
    command,
    context,
    echo_rq,
    element,
    p_data,
    padded,
    pdu,
    pdv,
    u16,
)
from ..suite import (
    ABORTED,
    CATALOGUE,
    ENDED,
    FAILURE,
    HANDLED,
    PROVIDER_ABORT,
    SHOULD,
    STORED,
    SUCCESS,
    Association,
    Expect,
    NotApplicable,
    Try,
)

case = CATALOGUE.case
ECHO = "PS3.7 9.1.5, 9.3.5"
FRAGMENTS = "PS3.8 annex E.1"
Values = Callable[[Try, Association], bytes]


def message(
    number: str, title: str, source: str, sends: str, build: Values, expect: Expect, *, storing: bool = False, **more: object
) -> None:
    """A case that is one stretch of bytes on an established association and the answer to it."""

    def run(t: Try) -> None:
        made = t.storing() if storing else t.associate()
        made.connection.send(build(t, made))
        made.after(t.match(made.answer(), expect))

    case(number, title, source, sends, str(expect), **more)(run)


def stored_image(t: Try) -> tuple[str, bytes]:
    """UID and bytes of a new image in explicit VR little endian."""
    instance = t.uid()
    return instance, encode(image(instance, t.uid()), EXPLICIT)


# --- C-ECHO -----------------------------------------------------------------------------------------

for offset, number in enumerate((0, 1, 255, 256, 32768, 65535)):

    @case(
        f"DM-{1 + offset:03}",
        f"C-ECHO with message id {number}",
        f"{ECHO}, table 9.3-13",
        f"C-ECHO-RQ, message id {number}",
        "STATUS 0000 to that message id",
    )
    def _(t: Try, number: int = number) -> None:
        made = t.associate([context(1)])
        t.match(made.echo(number), SUCCESS)
        made.release()


@case(
    "DM-007",
    "The C-ECHO response holds what it must and nothing else",
    "PS3.7 table 9.3-13, 6.3.1",
    "C-ECHO-RQ",
    "group length right, elements in order, no data set, affected SOP class absent or verification",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    answer = t.match(made.echo(), SUCCESS)
    elements = answer.response.elements if answer.response else {}
    allowed = {0x0000, 0x0002, 0x0100, 0x0120, 0x0800, 0x0900, 0x0902}
    t.check(set(elements) <= allowed, f"elements {sorted(hex(key) for key in set(elements) - allowed)}")
    made.release()


@case(
    "DM-008",
    "A hundred C-ECHO on one association",
    ECHO,
    "100 C-ECHO-RQ, each after the response before",
    "STATUS 0000 each time",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    for _ in range(100):
        t.match(made.echo(), SUCCESS)
    made.release()


@case(
    "DM-009",
    "The response comes on the context of the request",
    "PS3.8 annex E.1; PS3.7 9.3.5",
    "verification on contexts 1, 77 and 255, C-ECHO-RQ on each",
    "STATUS 0000 on the same context",
)
def _(t: Try) -> None:
    made = t.associate([context(n) for n in (1, 77, 255)])
    for number in (255, 1, 77):
        t.match(made.echo(number=number), SUCCESS)
    made.release()


@case(
    "DM-010",
    "Ten C-ECHO-RQ without waiting",
    "PS3.7 D.3.3.3: one outstanding operation unless more was negotiated",
    "ten C-ECHO-RQ in one segment",
    "ten responses in order, or ABORT",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(b"".join(p_data(pdv(1, 3, echo_rq(n))) for n in range(1, 11)))
    for number in range(1, 11):
        answer = t.match(made.answer(), (*SUCCESS, *ENDED))
        if answer.kind != "STATUS":
            break
        made.checked(answer, 0x8030, number, 1)
    made.connection.close()
    t.alive()


message(
    "DM-011",
    "C-ECHO on a storage context",
    "PS3.7 9.1.5; PS3.4 A.4: the service belongs to the verification SOP class",
    "C-ECHO-RQ on the context of CR storage",
    lambda t, made: p_data(pdv(3, 3, echo_rq())),
    Expect(HANDLED, (*FAILURE, *ENDED)),
    storing=True,
)
message(
    "DM-012",
    "C-ECHO that announces a data set",
    "PS3.7 table 9.3-12: data set type shall be 0101H",
    "C-ECHO-RQ with data set type 0001H, then a data set",
    lambda t, made: p_data(pdv(1, 3, echo_rq(data_set=1))) + p_data(pdv(1, 2, bytes(8))),
    Expect(HANDLED),
)

# --- fragments ---------------------------------------------------------------------------------------


def fragmented(data: bytes, size: int, control: int, number: int) -> list[bytes]:
    """PDVs of `size` bytes; the last has bit 1 set."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [pdv(number, control | (2 if at == len(parts) - 1 else 0), part) for at, part in enumerate(parts)]


for number, what, size, together in (
    (13, "two fragments in two P-DATA-TF", 34, False),
    (14, "three fragments in three P-DATA-TF", 24, False),
    (15, "fragments of two bytes, one P-DATA-TF each", 2, False),
    (16, "two fragments in one P-DATA-TF", 34, True),
    (17, "fragments of two bytes in one P-DATA-TF", 2, True),
    (18, "fragments that split the element headers", 6, True),
):
    message(
        f"DM-{number:03}",
        f"A command in {what}",
        f"{FRAGMENTS}: any number of fragments",
        f"C-ECHO-RQ in {what}",
        lambda t, made, size=size, together=together: (
            p_data(*fragmented(echo_rq(), size, 1, 1))
            if together
            else b"".join(p_data(one) for one in fragmented(echo_rq(), size, 1, 1))
        ),
        Expect(SUCCESS),
    )
message(
    "DM-019",
    "A command in fragments of one byte",
    f"{FRAGMENTS}: each fragment shall have an even number of bytes",
    "C-ECHO-RQ in fragments of one byte",
    lambda t, made: b"".join(p_data(one) for one in fragmented(echo_rq(), 1, 1, 1)),
    Expect((*SUCCESS, *ENDED), SUCCESS),
)
for number, what, build in (
    (20, "an empty last fragment", lambda: p_data(pdv(1, 1, echo_rq())) + p_data(pdv(1, 3, b""))),
    (21, "an empty first fragment", lambda: p_data(pdv(1, 1, b"")) + p_data(pdv(1, 3, echo_rq()))),
    (22, "empty fragments in between", lambda: p_data(pdv(1, 1, echo_rq()[:10]), pdv(1, 1, b""), pdv(1, 1, b""), pdv(1, 3, echo_rq()[10:]))),
):
    message(
        f"DM-{number:03}",
        f"A command with {what}",
        f"{FRAGMENTS}: zero is an even number",
        f"C-ECHO-RQ with {what}",
        lambda t, made, build=build: build(),
        Expect((*SUCCESS, *ENDED), SUCCESS),
    )
message(
    "DM-023",
    "Reserved bits of the message control header",
    "PS3.8 E.2: bits 2 to 7 are never checked by the receiver",
    "C-ECHO-RQ with control header FFH",
    lambda t, made: p_data(pdv(1, 0xFF, echo_rq())),
    Expect(SUCCESS),
)


def store_in(
    number: str, title: str, sends: str, build: Callable[[Association, bytes, bytes], bytes], expect: Expect, **more: object
) -> None:
    """A C-STORE whose fragments are laid out by `build(association, command, data)`."""

    def run(t: Try) -> None:
        made = t.storing()
        instance, data = stored_image(t)
        made.connection.send(build(made, Store(CR, instance).encode(), data))
        answer = made.answer()
        t.match(made.checked(answer, 0x8001, 1, 3, CR, instance), expect)
        made.after(answer)

    case(number, title, more.pop("source", f"{FRAGMENTS}"), sends, str(expect), **more)(run)  # type: ignore[arg-type]


store_in(
    "DM-024",
    "Command and data set in one P-DATA-TF",
    "C-STORE-RQ and its whole data set as two PDVs of one P-DATA-TF",
    lambda made, cmd, data: p_data(pdv(3, 3, cmd), pdv(3, 2, data)),
    Expect(STORED),
)
store_in(
    "DM-025",
    "Fragmented command and fragmented data set in one P-DATA-TF",
    "C-STORE-RQ in four PDVs and its data set in PDVs of 100 bytes, one P-DATA-TF",
    lambda made, cmd, data: p_data(*fragmented(cmd, 40, 1, 3), *fragmented(data, 100, 0, 3)),
    Expect(STORED),
)
store_in(
    "DM-026",
    "A data set in fragments of two bytes",
    "data set in PDVs of two bytes, one P-DATA-TF each",
    lambda made, cmd, data: p_data(pdv(3, 3, cmd)) + b"".join(p_data(one) for one in fragmented(data, 2, 0, 3)),
    Expect(STORED),
)
store_in(
    "DM-027",
    "A data set in fragments of an odd number of bytes",
    "data set in PDVs of 33 bytes",
    lambda made, cmd, data: p_data(pdv(3, 3, cmd)) + b"".join(p_data(one) for one in fragmented(data, 33, 0, 3)),
    Expect((*STORED, *ENDED, *FAILURE), STORED),
    source=f"{FRAGMENTS}: each fragment shall have an even number of bytes; mercure#45",
)
store_in(
    "DM-028",
    "An empty last fragment ends a data set",
    "the data set not marked last, then an empty PDV marked last",
    lambda made, cmd, data: p_data(pdv(3, 3, cmd)) + p_data(pdv(3, 0, data)) + p_data(pdv(3, 2, b"")),
    Expect(STORED),
)
store_in(
    "DM-029",
    "Empty fragments inside a data set",
    "an empty PDV after each PDV of data",
    lambda made, cmd, data: p_data(pdv(3, 3, cmd))
    + b"".join(p_data(one[:5] + b"\0" + one[6:], pdv(3, 0, b"")) for one in fragmented(data, 200, 0, 3))
    + p_data(pdv(3, 2, b"")),
    Expect((*STORED, *ENDED), STORED),
)


@case(
    "DM-030",
    "A P-DATA-TF of exactly the acceptor's maximum length",
    "PS3.8 D.1.2",
    "an object whose first P-DATA-TF is as long as allowed",
    "STATUS 0000",
)
def _(t: Try) -> None:
    made = t.storing()
    limit = made.accepted.max_pdu
    if not 1024 <= limit <= 1 << 20 or limit % 2:
        raise NotApplicable(f"maximum length {limit}")
    instance = t.uid()
    data = encode(image(instance, t.uid(), side=512), EXPLICIT)
    while len(data) < 2 * limit:
        data += b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", limit) + bytes(limit)
    made.connection.send(p_data(pdv(3, 3, Store(CR, instance).encode())))
    made.send_data(data, 3, limit - 6)
    t.match(made.checked(made.answer(), 0x8001, 1, 3), STORED)
    made.usable()
    made.release()


@case(
    "DM-031",
    "A P-DATA-TF two bytes longer than the acceptor's maximum length",
    "PS3.8 D.1.2: shall never be exceeded, otherwise it is a protocol error",
    "an object whose first P-DATA-TF is two bytes too long",
    "ABORT 2/* or STATUS",
    severity=SHOULD,
)
def _(t: Try) -> None:
    made = t.storing()
    limit = made.accepted.max_pdu
    if not 1024 <= limit <= 1 << 20 or limit % 2:
        raise NotApplicable(f"maximum length {limit}")
    instance = t.uid()
    made.connection.send(p_data(pdv(3, 3, Store(CR, instance).encode())))
    made.connection.send(p_data(pdv(3, 2, bytes(limit - 4))))
    t.match(made.answer(), HANDLED)
    made.connection.close()
    t.alive()


# --- PDVs that are none --------------------------------------------------------------------------------

for number, what, data in (
    (32, "a P-DATA-TF without a value", pdu(4, b"")),
    (33, "a value of length 0", p_data(pdv(1, 3, b"", length=0)[:4])),
    (34, "a value of length 1", p_data(pdv(1, 3, b"", length=1)[:5])),
    (35, "a value that is longer than its P-DATA-TF", p_data(pdv(1, 3, echo_rq(), length=5000))),
    (36, "a value of length FFFFFFFFH", p_data(pdv(1, 3, echo_rq(), length=0xFFFFFFFF))),
    (37, "a value of length 80000000H", p_data(pdv(1, 3, echo_rq(), length=0x80000000))),
    (38, "three bytes after the last value", p_data(pdv(1, 1, echo_rq()), b"\0\0\0")),
):
    message(
        f"DM-{number:03}",
        f"Malformed: {what}",
        "PS3.8 9.3.5: one or more values, each of at least two bytes; table 9-10, AA-8",
        what,
        lambda t, made, data=data: data,
        Expect(ENDED, PROVIDER_ABORT),
    )
for number, what, ctx in ((39, "not negotiated", 99), (40, "even", 2), (41, "zero", 0)):
    message(
        f"DM-{number:03}",
        f"A command on a context that is {what}",
        "PS3.8 9.3.5.1; table 9-10, AA-8",
        f"C-ECHO-RQ on context {ctx}",
        lambda t, made, ctx=ctx: p_data(pdv(ctx, 3, echo_rq())),
        Expect((*ENDED, *FAILURE), PROVIDER_ABORT),
    )


@case(
    "DM-042",
    "A command on a context that was rejected",
    "PS3.8 7.1.1.14: only accepted contexts may be used",
    "C-ECHO-RQ on a context answered by result 3 or 4",
    "ABORT, CLOSED or a failure status; cloister: ABORT 2/*",
)
def _(t: Try) -> None:
    made = t.associate([context(1), context(3, VERIFICATION, ("1.2.3.4",))])
    t.check(made.accepted.result(3) not in (0, None), "the unknown syntax is accepted")
    made.connection.send(p_data(pdv(3, 3, echo_rq())))
    t.match(made.answer(), Expect((*ENDED, *FAILURE), PROVIDER_ABORT))
    made.connection.close()
    t.alive()


# --- the order of fragments -----------------------------------------------------------------------------

ORDER = f"{FRAGMENTS}: no fragment of another message before the last one"
for number, title, sends, build in (
    (43, "A data fragment where a command is due", "a data PDV first", lambda cmd, data: p_data(pdv(3, 2, data))),
    (44, "A command fragment inside a data set", "C-STORE-RQ, half its data, C-ECHO-RQ on the same context", lambda cmd, data: p_data(pdv(3, 3, cmd)) + p_data(pdv(3, 0, data[:100])) + p_data(pdv(3, 3, echo_rq()))),
    (45, "A C-ECHO-RQ on another context inside a data set", "C-STORE-RQ, half its data, C-ECHO-RQ on context 1", lambda cmd, data: p_data(pdv(3, 3, cmd)) + p_data(pdv(3, 0, data[:100])) + p_data(pdv(1, 3, echo_rq()))),
    (46, "The data set on another context than the command", "C-STORE-RQ on context 3, its data on context 1", lambda cmd, data: p_data(pdv(3, 3, cmd)) + p_data(pdv(1, 2, data))),
    (47, "Command fragments on two contexts", "half a C-STORE-RQ on context 3, the rest on context 1", lambda cmd, data: p_data(pdv(3, 1, cmd[:40])) + p_data(pdv(1, 3, cmd[40:]))),
    (48, "A data fragment inside a command", "half a C-STORE-RQ, a data PDV", lambda cmd, data: p_data(pdv(3, 1, cmd[:40])) + p_data(pdv(3, 2, data))),
):

    @case(f"DM-{number:03}", title, ORDER, sends, "ABORT, CLOSED or a failure status; cloister: ABORT 2/*")
    def _(t: Try, build: Callable[[bytes, bytes], bytes] = build) -> None:
        made = t.storing()
        instance, data = stored_image(t)
        made.connection.send(build(Store(CR, instance).encode(), data))
        t.match(made.answer(), Expect((*ENDED, *FAILURE), PROVIDER_ABORT))
        made.connection.close()
        t.alive()


# --- command sets that are none -----------------------------------------------------------------------


def echo_without(*left_out: int) -> bytes:
    """A C-ECHO-RQ without some elements."""
    parts = {2: padded(VERIFICATION), 0x100: u16(0x30), 0x110: u16(1), 0x800: u16(0x0101)}
    return command(b"".join(element(key, value) for key, value in parts.items() if key not in left_out))


for number, what, data, expect in (
    (49, "without command field", echo_without(0x100), Expect((*ENDED, *FAILURE), ENDED)),
    (50, "without message id", echo_without(0x110), Expect(HANDLED, (*ENDED, *FAILURE))),
    (51, "without data set type", echo_without(0x800), Expect(HANDLED, (*ENDED, *FAILURE))),
    (52, "without affected SOP class UID", echo_without(2), Expect(HANDLED)),
    (53, "of zero bytes", b"", Expect((*ENDED, *FAILURE), ENDED)),
    (54, "that ends inside an element header", echo_rq()[:-3], Expect((*ENDED, *FAILURE), ENDED)),
    (55, "that ends inside a value", echo_rq()[:-1], Expect((*ENDED, *FAILURE), ENDED)),
    (56, "with an element longer than what is left", command(element(2, padded(VERIFICATION), length=5000)), Expect((*ENDED, *FAILURE), ENDED)),
    (57, "with an element of length FFFFFFFFH", command(element(2, b"x", length=0xFFFFFFFF)), Expect((*ENDED, *FAILURE), ENDED)),
    (58, "with a command field of four bytes", command(element(2, padded(VERIFICATION)) + element(0x100, b"\x30\0\0\0") + element(0x110, u16(1)) + element(0x800, u16(0x101))), Expect(HANDLED)),
    (59, "with an empty message id", command(element(2, padded(VERIFICATION)) + element(0x100, u16(0x30)) + element(0x110, b"") + element(0x800, u16(0x101))), Expect(HANDLED)),
    (60, "of another group", element(2, padded(VERIFICATION), group=8) + echo_rq(), Expect(HANDLED, ENDED)),
    (61, "in explicit VR", b"\0\0\2\0UI" + struct.pack("<H", 18) + padded(VERIFICATION) + b"\0\0\0\1US\2\0\x30\0\0\0\x10\1US\2\0\1\0\0\0\0\x08US\2\0\1\1", Expect((*ENDED, *FAILURE), ENDED)),
):
    message(
        f"DM-{number:03}",
        f"A command set {what}",
        "PS3.7 6.3.1, 9.3.5, table E.1-1",
        f"a C-ECHO-RQ {what}",
        lambda t, made, data=data: p_data(pdv(1, 3, data)),
        expect,
    )
for number, what, data in (
    (62, "without group length", command(echo_rq()[12:], with_length=False)),
    (63, "with a group length of 0", command(echo_rq()[12:], group_length=0)),
    (64, "with a group length that is too long", command(echo_rq()[12:], group_length=5000)),
    (65, "with elements out of order", command(element(0x800, u16(0x101)) + element(0x110, u16(1)) + element(0x100, u16(0x30)) + element(2, padded(VERIFICATION)))),
    (66, "with the retired length to end and recognition code", command(element(1, bytes(4)) + echo_rq()[12:38] + element(0x10, b"ACR-NEMA 2.0") + echo_rq()[38:])),
    (67, "with an unknown element", command(echo_rq()[12:] + element(0x5110, b"NEW "))),
    (68, "with the affected SOP class UID padded by a space", command(element(2, VERIFICATION.encode() + b" ") + echo_rq()[12 + 8 + 18 :])),
):
    message(
        f"DM-{number:03}",
        f"A command set {what}",
        "PS3.7 6.3.1, table E.1-1, E.2; PS3.5 9.1",
        f"a C-ECHO-RQ {what}",
        lambda t, made, data=data: p_data(pdv(1, 3, data)),
        Expect(HANDLED, SUCCESS if number in (66, 67) else HANDLED),
    )
message(
    "DM-069",
    "A command set of 1 MB",
    "PS3.7 6.3.1; bounded memory",
    "a C-ECHO-RQ with an unknown element of 1 MB",
    lambda t, made: b"".join(
        p_data(one) for one in fragmented(command(echo_rq()[12:] + element(0x5110, bytes(1 << 20))), 16000, 1, 1)
    ),
    Expect(HANDLED, ENDED),
)

# --- operations that are not offered ---------------------------------------------------------------------

OPERATIONS = (
    (0x0010, "C-GET-RQ", True),
    (0x0020, "C-FIND-RQ", True),
    (0x0021, "C-MOVE-RQ", True),
    (0x0100, "N-EVENT-REPORT-RQ", True),
    (0x0110, "N-GET-RQ", False),
    (0x0120, "N-SET-RQ", True),
    (0x0130, "N-ACTION-RQ", True),
    (0x0140, "N-CREATE-RQ", True),
    (0x0150, "N-DELETE-RQ", False),
    (0x0002, "0002H", False),
    (0x7777, "7777H", True),
)
for offset, (field_value, name, with_data) in enumerate(OPERATIONS):

    @case(
        f"DM-{70 + offset:03}",
        f"{name} on a storage context",
        "PS3.7 C.5.24: unrecognized operation is 0211H; PS3.4 B.2",
        f"{name}" + (" with a data set" if with_data else ""),
        "a failure status to that message, or ABORT, or CLOSED; cloister: STATUS 0211",
    )
    def _(t: Try, field_value: int = field_value, with_data: bool = with_data) -> None:
        made = t.storing()
        cmd = Store(CR, None, message=7, command_field=field_value, data_set=0 if with_data else 0x0101)
        made.connection.send(p_data(pdv(3, 3, cmd.encode())))
        if with_data:
            made.send_data(stored_image(t)[1], 3)
        answer = t.match(made.answer(), Expect((*FAILURE, *ENDED), ("STATUS 0211",)))
        made.checked(answer, field_value | 0x8000, 7, 3)
        made.after(answer)


for number, name, field_value in ((81, "C-ECHO-RSP", 0x8030), (82, "C-STORE-RSP", 0x8001)):

    @case(
        f"DM-{number:03}",
        f"A {name} to nobody's request is not answered",
        "PS3.7 9.3: a response answers a request",
        f"{name}, then half-close",
        "ABORT or CLOSED, or ignored; no response to it",
        generic_severity=SHOULD,
    )
    def _(t: Try, field_value: int = field_value) -> None:
        made = t.associate()
        body = element(2, padded(VERIFICATION)) + element(0x100, u16(field_value)) + element(0x120, u16(1))
        body += element(0x800, u16(0x101)) + element(0x900, u16(0))
        made.connection.send(p_data(pdv(1, 3, command(body))))
        made.connection.finish_sending()
        t.match(made.answer(), ENDED)
        t.alive()


@case(
    "DM-083",
    "C-CANCEL for nothing is ignored",
    "PS3.7 9.3.2.3: C-CANCEL has no response",
    "C-CANCEL-RQ, then C-ECHO-RQ",
    "the next answer is STATUS 0000 to the C-ECHO, or ABORT",
)
def _(t: Try) -> None:
    made = t.associate()
    cancel = command(element(0x100, u16(0x0FFF)) + element(0x120, u16(1)) + element(0x800, u16(0x101)))
    made.connection.send(p_data(pdv(1, 3, cancel)))
    answer = t.match(made.echo(9), Expect((*SUCCESS, *ENDED), SUCCESS))
    made.connection.close()
    if answer.kind != "STATUS":
        t.alive()


@case(
    "DM-084",
    "C-CANCEL after a C-STORE is ignored",
    "PS3.7 9.3.2.3",
    "C-STORE, C-CANCEL-RQ, C-ECHO-RQ",
    "STATUS 0000 to the C-STORE and to the C-ECHO, nothing in between, or ABORT",
)
def _(t: Try) -> None:
    made = t.storing()
    t.match(made.store_image(), STORED)
    cancel = command(element(0x100, u16(0x0FFF)) + element(0x120, u16(1)) + element(0x800, u16(0x101)))
    made.connection.send(p_data(pdv(3, 3, cancel)))
    t.match(made.echo(9), Expect((*SUCCESS, *ENDED), SUCCESS))
    made.connection.close()


# --- C-STORE requests ---------------------------------------------------------------------------------------


def request(number: str, title: str, source: str, expect: Expect, *, data: bool = True, **changes: object) -> None:
    """A C-STORE-RQ with changes; its data set is a correct image."""
    more = {key: changes.pop(key) for key in ("generic_severity", "severity") if key in changes}

    def run(t: Try) -> None:
        made = t.storing()
        instance, encoded = stored_image(t)
        command_set = Store(**({"sop_class": CR, "sop_instance": instance} | changes))  # type: ignore[arg-type]
        made.connection.send(p_data(pdv(3, 3, command_set.encode())))
        if data:
            made.send_data(encoded, 3)
        answer = made.answer()
        made.checked(answer, 0x8001, command_set.message, 3)
        t.match(answer, expect)
        made.after(answer)

    case(number, title, source, f"C-STORE-RQ: {title.lower()}", str(expect), **more)(run)


STORE_TABLE = "PS3.7 9.3.1.1, table 9.3-1"
NOT_STORED = (*FAILURE, *ENDED)
request("DM-085", "Without affected SOP class UID", STORE_TABLE, Expect(NOT_STORED, FAILURE), sop_class=None)
request("DM-086", "Without affected SOP instance UID", STORE_TABLE, Expect(NOT_STORED, FAILURE), sop_instance=None)
request("DM-087", "Without message id", STORE_TABLE, Expect(HANDLED, NOT_STORED), message=None)
request("DM-088", "Without priority", STORE_TABLE, Expect(HANDLED, STORED), priority=None)
for number, priority in ((89, 1), (90, 2)):
    request(f"DM-{number:03}", f"Priority {priority}", STORE_TABLE, Expect(STORED), priority=priority)
request("DM-091", "Priority 7 does not exist", STORE_TABLE, Expect(HANDLED), priority=7)
request(
    "DM-092",
    "Move originator AE title and message id",
    STORE_TABLE,
    Expect(STORED),
    originator=("ARCHIVE", 12),
)
for number, kind in ((93, 0x0001), (94, 0x0102), (95, 0xFFFF), (96, 0xFEFE)):
    request(
        f"DM-{number:03}",
        f"Data set type {kind:04X}H means that a data set follows",
        "PS3.7 table 9.3-1: any value other than 0101H",
        Expect(STORED),
        data_set=kind,
    )
request(
    "DM-097",
    "Data set type 0101H, no data set",
    "PS3.7 9.1.1.1: the data set is mandatory",
    Expect(NOT_STORED, (*FAILURE, *ABORTED)),
    data=False,
    data_set=0x0101,
)
request(
    "DM-098",
    "Affected SOP class other than the context's",
    "PS3.7 9.1.1.1; PS3.4 B.2.3",
    Expect(NOT_STORED, FAILURE),
    generic_severity=SHOULD,
    sop_class="1.2.840.10008.5.1.4.1.1.2",
)
request(
    "DM-099",
    "Affected SOP class is verification",
    "PS3.7 9.1.1.1; PS3.4 B.2.3",
    Expect(NOT_STORED, FAILURE),
    generic_severity=SHOULD,
    sop_class=VERIFICATION,
)
request(
    "DM-100",
    "Affected SOP instance other than the data set's",
    "PS3.4 B.2.3: A9xx; issue 4",
    Expect(NOT_STORED, ("STATUS A9??",)),
    generic_severity=SHOULD,
    sop_instance="2.25.123456789",
)


@case(
    "DM-101",
    "SOP class of the data set other than the command's",
    "PS3.4 B.2.3, table B.2-1: A9xx or B007",
    "C-STORE-RQ for CR, data set with the SOP class of CT",
    "A9xx, Cxxx, B007 or ABORT; cloister: STATUS A9xx",
    generic_severity=SHOULD,
)
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    data = encode(image(instance, t.uid(), sop_class="1.2.840.10008.5.1.4.1.1.2"), EXPLICIT)
    answer = made.store(data, instance)
    t.match(answer, Expect((*NOT_STORED, "STATUS B007"), ("STATUS A9??",)))
    made.after(answer)


@case(
    "DM-102",
    "C-STORE on a verification context",
    "PS3.7 9.1.1; PS3.4 B.2",
    "C-STORE-RQ on the context of verification",
    "a failure status, ABORT or CLOSED",
)
def _(t: Try) -> None:
    made = t.associate()
    instance, data = stored_image(t)
    answer = t.match(made.store(data, instance, VERIFICATION, number=1), Expect(NOT_STORED))
    made.after(answer)


# --- services ---------------------------------------------------------------------------------------------


@case(
    "DM-103",
    "A private SOP class is refused or stored, by policy",
    "PS3.8 table 9-18; CTP#35; issue 4",
    "context for 1.3.12.2.1107.5.9.1, an object if it is accepted",
    "result 1 to 4, or STATUS 0000",
)
def _(t: Try) -> None:
    private = "1.3.12.2.1107.5.9.1"
    made = t.associate([context(1), context(3, private, (EXPLICIT,))])
    if made.accepted.result(3) == 0:
        instance = t.uid()
        data = encode(image(instance, t.uid(), sop_class=private), EXPLICIT)
        t.match(made.store(data, instance, private), STORED)
    made.usable()
    made.release()


for number, name, uid in (
    (104, "Storage commitment push model", "1.2.840.10008.1.20.1"),
    (105, "Study root query/retrieve FIND", "1.2.840.10008.5.1.4.1.2.2.1"),
    (106, "Study root query/retrieve MOVE", "1.2.840.10008.5.1.4.1.2.2.2"),
    (107, "Modality worklist FIND", "1.2.840.10008.5.1.4.31"),
    (108, "Modality performed procedure step", "1.2.840.10008.3.1.2.3.3"),
    (109, "Basic grayscale print", "1.2.840.10008.5.1.1.9"),
    (110, "Media storage directory storage", "1.2.840.10008.1.3.10"),
):

    @case(
        f"DM-{number:03}",
        f"{name} is negotiated only where it is offered",
        "PS3.8 table 9-18; issue 4: an object that may be erased is never committed",
        f"context for {uid}",
        "result 0 to 4; cloister: result 3",
    )
    def _(t: Try, uid: str = uid) -> None:
        made = t.associate([context(1), context(3, uid, (EXPLICIT,))])
        result = made.accepted.result(3)
        t.got = f"result {result}"
        t.check(result is not None, "no result for the context")
        t.check(not t.cloister or result == 3, f"result {result}")
        made.usable()
        made.release()


@case(
    "DM-111",
    "Storage commitment: a request is answered",
    "PS3.4 J.3.2, PS3.7 10.1.4",
    "N-ACTION-RQ with one referenced object, where the SOP class is negotiated",
    "N-ACTION-RSP with any status; cloister: not negotiated",
)
def _(t: Try) -> None:
    uid = "1.2.840.10008.1.20.1"
    made = t.associate([context(1), context(3, uid, (EXPLICIT,))])
    if made.accepted.result(3) != 0:
        made.usable()
        made.release()
        raise NotApplicable("not negotiated")
    body = element(3, padded(uid)) + element(0x100, u16(0x130)) + element(0x110, u16(5))
    body += element(0x800, u16(0)) + element(0x1001, padded("1.2.840.10008.1.20.1.1")) + element(0x1008, u16(1))
    made.connection.send(p_data(pdv(3, 3, command(body))))
    transaction = padded(t.uid())
    referenced = sequence(8, 0x1199, [string(8, 0x1150, "UI", CR), string(8, 0x1155, "UI", t.uid())])
    data = b"\x08\0\x95\x11UI" + struct.pack("<H", len(transaction)) + transaction
    made.send_data(data + referenced.encode(LITTLE), 3)
    answer = t.match(made.answer(), ("STATUS *",))
    made.checked(answer, 0x8130, 5, 3)
    made.connection.close()


@case(
    "DM-112",
    "A C-STORE response names its object",
    "PS3.7 table 9.3-2",
    "C-STORE-RQ with message id 4711",
    "STATUS 0000 to 4711; (0000,0002) and (0000,1000) absent or the request's; no data set",
)
def _(t: Try) -> None:
    made = t.storing()
    answer = t.match(made.store_image(message=4711), STORED)
    allowed = {0, 2, 0x100, 0x120, 0x800, 0x900, 0x901, 0x902, 0x903, 0x1000}
    seen = set(answer.response.elements) if answer.response else set()
    t.check(seen <= allowed, f"elements {sorted(hex(key) for key in seen - allowed)}")
    made.release()


@case(
    "DM-113",
    "The same message id for two operations one after the other",
    "PS3.7 9.3: unique among outstanding operations only",
    "two C-STORE with message id 5",
    "STATUS 0000 twice",
)
def _(t: Try) -> None:
    made = t.storing()
    t.match(made.store_image(message=5), STORED)
    t.match(made.store_image(message=5), STORED)
    made.release()
