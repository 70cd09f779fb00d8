"""Association establishment, release and abort: PS3.8 sections 7, 9 and annex D, PS3.7 annex D."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..dataset import encode, image
from ..peer import (
    APPLICATION_CONTEXT,
    CR,
    EXPLICIT,
    IMPLEMENTATION,
    IMPLICIT,
    VERIFICATION,
    Accepted,
    Request,
    Store,
    abort,
    common_extended,
    context,
    echo_rq,
    extended,
    identity,
    item,
    max_length,
    p_data,
    pdu,
    pdv,
    release_rq,
    role,
    user_info,
)
from ..suite import ANSWERED, CATALOGUE, ENDED, PROVIDER_ABORT, REFUSED, SHOULD, Expect, Try, closed_within

case = CATALOGUE.case
RQ_TABLE = "PS3.8 9.3.2, table 9-11"
STATE = "PS3.8 9.2.3, table 9-10"
Check = Callable[[Try, Accepted], None]


def negotiation(
    number: str,
    title: str,
    source: str,
    sends: str,
    request: Callable[[Try], Request | bytes],
    expect: Expect,
    check: Check | None = None,
    **more: object,
) -> None:
    """A case that is one request and the first PDU that answers it."""

    def run(t: Try) -> None:
        made = request(t)
        answer = t.match(t.reply(made if isinstance(made, bytes) else made.encode()), expect)
        if answer.accepted is not None and check is not None:
            check(t, answer.accepted)
        if answer.accepted is None:
            t.alive()

    case(number, title, source, sends, str(expect), **more)(run)


ACCEPTED = Expect(("AC",))


def with_then(expect: Expect, then: str) -> Expect:
    """The expectation with what is checked of the acceptance."""
    return Expect(expect.generic, expect.cloister, then)


def simple(number: str, title: str, source: str, sends: str, then: str, check: Check, **more: object) -> None:
    """A correct request for verification; what is checked of the A-ASSOCIATE-AC."""
    negotiation(number, title, source, sends, lambda t: t.request(), with_then(ACCEPTED, then), check, **more)


# --- what an acceptance looks like ---------------------------------------------------------------


@case(
    "UL-001",
    "Verification is negotiated, used and released",
    "PS3.8 7.1, 7.2; PS3.7 9.1.5",
    "A-ASSOCIATE-RQ, C-ECHO-RQ, A-RELEASE-RQ",
    "AC; STATUS 0000; RELEASE-RP",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.usable()
    made.release()


simple(
    "UL-002",
    "The protocol version of the acceptance has bit 0 set",
    "PS3.8 table 9-17",
    "a correct request",
    "version bit 0 = 1",
    lambda t, a: t.check(a.version & 1, f"version {a.version:04X}H"),
)
simple(
    "UL-003",
    "The AE title fields come back as they were sent",
    "PS3.8 table 9-17, bytes 11-42",
    "a correct request",
    "both fields equal the request's",
    lambda t, a: t.check(
        a.called.rstrip() == t.target.called.encode() and a.calling.rstrip() == t.calling.encode(),
        f"{a.called!r}, {a.calling!r}",
    ),
)


def _same_reserved(t: Try, a: Accepted) -> None:
    t.check(a.reserved == bytes(range(1, 33)), "other bytes came back")


negotiation(
    "UL-004",
    "The 32 reserved bytes come back as they were sent",
    "PS3.8 table 9-17, bytes 43-74",
    "reserved bytes 01H to 20H",
    lambda t: t.request(reserved_32=bytes(range(1, 33))),
    with_then(ACCEPTED, "bytes 43-74 equal the request's"),
    _same_reserved,
    severity=SHOULD,
)


def _exact_titles(t: Try, a: Accepted) -> None:
    t.check(a.called == b"  " + t.target.called.encode().ljust(14), f"{a.called!r}")


negotiation(
    "UL-005",
    "Leading spaces of the AE title field come back where they were",
    "PS3.8 table 9-17, bytes 11-26",
    "the called AE title with two leading spaces",
    lambda t: t.request(called="  " + t.target.called),
    with_then(ACCEPTED, "bytes 11-26 equal the request's"),
    _exact_titles,
    severity=SHOULD,
)
simple(
    "UL-006",
    "One result for the one context",
    "PS3.8 9.3.3.2",
    "one presentation context",
    "one item 21H with its id",
    lambda t, a: t.check([r[0] for r in a.results] == [1], f"{a.results}"),
)
simple(
    "UL-007",
    "The accepted transfer syntax is one that was proposed",
    "PS3.8 9.3.3.2.1",
    "one presentation context",
    "transfer syntax is the proposed one",
    lambda t, a: t.check(a.syntax(1) == IMPLICIT, f"{a.syntax(1)}"),
)
simple(
    "UL-008",
    "Exactly one maximum length sub-item of four bytes",
    "PS3.8 D.1.2",
    "a correct request",
    "one sub-item 51H",
    lambda t, a: t.check(len(a.sub_items(0x51)) == 1, f"{len(a.sub_items(0x51))} sub-items"),
)


def _implementation(t: Try, a: Accepted) -> None:
    found = a.sub_items(0x52)
    t.check(len(found) == 1, f"{len(found)} sub-items 52H")
    uid = found[0].decode("ascii", "replace")
    parts = uid.split(".")
    good = len(uid) <= 64 and all(part.isdigit() and (part == "0" or part[0] != "0") for part in parts)
    t.check(good, f"implementation class {uid!r}")


simple(
    "UL-009",
    "The implementation class UID is there and is a UID",
    "PS3.7 D.3.3.2.2; PS3.5 9.1",
    "a correct request",
    "one sub-item 52H, 1 to 64 characters, no leading zeros",
    _implementation,
)


def _version_name(t: Try, a: Accepted) -> None:
    for name in a.sub_items(0x55):
        t.check(1 <= len(name) <= 16 and all(0x20 <= byte < 0x7F for byte in name), f"{name!r}")


simple(
    "UL-010",
    "The implementation version name has 1 to 16 characters",
    "PS3.7 D.3.3.2.4",
    "a correct request",
    "sub-item 55H absent or 1 to 16 characters of ISO 646",
    _version_name,
)
simple(
    "UL-011",
    "Nothing is negotiated that was not proposed",
    "PS3.7 D.3.3.3 to D.3.3.7",
    "a request without optional sub-items",
    "no sub-item 53H, 54H, 56H, 57H, 59H",
    lambda t, a: t.check(
        not [k for k, _ in a.user if k in (0x53, 0x54, 0x56, 0x57, 0x58, 0x59)], f"{[hex(k) for k, _ in a.user]}"
    ),
)

# --- fields that are not tested ------------------------------------------------------------------

for number, what, changes in (
    (12, "PDU reserved byte 2", {"pdu_reserved": 0xFF}),
    (13, "reserved bytes 9-10", {"reserved_2": b"\xff\xff"}),
    (14, "reserved bytes 43-74", {"reserved_32": b"\xff" * 32}),
    (15, "reserved bytes of the context item", {"contexts": [context(1, reserved=b"\xff\xff\xff", item_reserved=0xFF)]}),
    (
        16,
        "reserved byte of the application context item",
        {"application": item(0x10, APPLICATION_CONTEXT.encode(), reserved=0xFF)},
    ),
):
    negotiation(
        f"UL-{number:03}",
        f"{what}: not tested when received",
        f"{RQ_TABLE} and item tables",
        f"{what} = FFH",
        lambda t, changes=changes: t.request(**changes),
        ACCEPTED,
    )

# --- protocol version and application context ----------------------------------------------------

for number, version in ((17, 0x0000), (18, 0x0002), (19, 0xFFFE)):
    negotiation(
        f"UL-{number:03}",
        f"Protocol version {version:04X}H without bit 0 is rejected",
        "PS3.8 table 9-11, bytes 7-8; table 9-21",
        f"protocol version {version:04X}H",
        lambda t, version=version: t.request(version=version),
        Expect(("RJ ?/2/2",), ("RJ 1/2/2",)),
    )
for number, version in ((20, 0x0003), (21, 0xFFFF), (22, 0x8001)):
    negotiation(
        f"UL-{number:03}",
        f"Protocol version {version:04X}H with bit 0 is accepted",
        "PS3.8 table 9-11: only bit 0 is tested",
        f"protocol version {version:04X}H",
        lambda t, version=version: t.request(version=version),
        ACCEPTED,
    )
for number, what, application, expect in (
    (23, "unknown", item(0x10, b"1.2.3.4.5"), Expect(("RJ ?/1/2",), ("RJ 1/1/2",))),
    (24, "a prefix of the right one", item(0x10, APPLICATION_CONTEXT[:-2].encode()), Expect(("RJ ?/1/2",), ("RJ 1/1/2",))),
    (25, "empty", item(0x10, b""), Expect(REFUSED)),
    (26, "missing", b"", Expect(REFUSED)),
    (27, "not ASCII", item(0x10, b"\xff\xfe1.2"), Expect(REFUSED)),
    (28, "given twice", item(0x10, APPLICATION_CONTEXT.encode()) * 2, Expect(ANSWERED)),
):
    negotiation(
        f"UL-{number:03}",
        f"Application context {what}",
        "PS3.7 annex A; PS3.8 7.1.1.2, table 9-21",
        f"application context name {what}",
        lambda t, application=application: t.request(application=application),
        expect,
    )

# --- AE titles ------------------------------------------------------------------------------------

WRONG_CALLED = Expect(("AC", "RJ ?/1/7"), ("RJ 1/1/7",))
BAD_CALLED = Expect(("AC", "RJ *", "ABORT *", "CLOSED"), ("RJ 1/1/7",))
for number, what, called, expect in (
    (29, "another title", lambda t: "NOT_" + t.target.called[:12], WRONG_CALLED),
    (30, "a prefix of the right one", lambda t: t.target.called[:-1], WRONG_CALLED),
    (31, "the right one with a letter more", lambda t: (t.target.called + "X")[-16:], WRONG_CALLED),
    (32, "lower case", lambda t: t.target.called.lower(), WRONG_CALLED),
    (33, "16 spaces", lambda t: b" " * 16, BAD_CALLED),
    (34, "16 NUL", lambda t: bytes(16), BAD_CALLED),
    (35, "padded with NUL", lambda t: t.target.called.encode().ljust(16, b"\0"), Expect(ANSWERED, ("AC", "RJ 1/1/7"))),
    (36, "with a tab", lambda t: t.target.called.encode()[:14] + b"\t", BAD_CALLED),
    (37, "with a backslash", lambda t: t.target.called.encode()[:14] + b"\\", BAD_CALLED),
    (38, "UTF-8 letters", lambda t: "KLINIK_MÜNCHEN", BAD_CALLED),
    (39, "ISO 8859 letters", lambda t: "MÜNCHEN".encode("latin-1"), BAD_CALLED),
):
    negotiation(
        f"UL-{number:03}",
        f"Called AE title: {what}",
        "PS3.8 table 9-11, bytes 11-26; 7.1.1.4; table 9-21",
        f"called AE title {what}",
        lambda t, called=called: t.request(called=called(t)),
        expect,
    )
for number, what, pad in (
    (40, "leading", lambda name: (b"  " + name).ljust(16)),
    (41, "as many leading as fit", lambda name: name.rjust(16)),
):
    negotiation(
        f"UL-{number:03}",
        f"Called AE title with {what} spaces is the same title",
        "PS3.8 table 9-11: leading and trailing spaces are non-significant",
        f"called AE title with {what} spaces",
        lambda t, pad=pad: t.request(called=pad(t.target.called.encode())),
        ACCEPTED,
    )
BAD_CALLING = Expect(ANSWERED, ("RJ 1/1/3",))
for number, what, calling, expect in (
    (42, "16 spaces", b" " * 16, BAD_CALLING),
    (43, "16 NUL", bytes(16), BAD_CALLING),
    (44, "padded with NUL", b"UL_044".ljust(16, b"\0"), Expect(ANSWERED, ("AC", "RJ 1/1/3"))),
    (45, "with a newline", b"UL_045\nX", BAD_CALLING),
    (46, "with an escape character", b"UL_046\x1b[2J", BAD_CALLING),
    (47, "with a backslash", b"UL\\047", BAD_CALLING),
    (48, "UTF-8 letters", "ÜL_048".encode(), BAD_CALLING),
    (49, "ISO 8859 letters", "ÜL_049".encode("latin-1"), BAD_CALLING),
):
    negotiation(
        f"UL-{number:03}",
        f"Calling AE title: {what}",
        "PS3.8 table 9-11, bytes 27-42; 7.1.1.3; pynetdicom#921",
        f"calling AE title {what}",
        lambda t, calling=calling: t.request(calling=calling),
        expect,
    )
for number, what, calling in (
    (50, "of 16 characters", b"ABCDEFGHIJKLMNOP"),
    (51, "of one character", b"A"),
    (52, "with a space inside", b"UL 052"),
    (53, "with punctuation", b"UL.053-(x)'*"),
):

    def _calling_accepted(t: Try, a: Accepted, calling: bytes = calling) -> None:
        t.check(a.calling.rstrip() == calling, f"{a.calling!r}")

    negotiation(
        f"UL-{number:03}",
        f"Calling AE title {what} is a title",
        "PS3.8 table 9-11, bytes 27-42",
        f"calling AE title {what}",
        lambda t, calling=calling: t.request(calling=calling),
        Expect(("AC", "RJ ?/1/3"), ("AC", "RJ 1/1/3")),
        _calling_accepted,
    )


@case(
    "UL-054",
    "A calling AE title that is not on the list is rejected",
    "PS3.8 table 9-21; issue 4",
    "a calling AE title that the receiver was told to refuse",
    "RJ ?/1/3; cloister: RJ 1/1/3",
    needs=("denied-calling",),
)
def _(t: Try) -> None:
    answer = t.reply(t.request(calling=t.target.denied_calling).encode())
    t.match(answer, Expect(("RJ ?/1/3",), ("RJ 1/1/3",)))
    t.alive()


# --- presentation contexts ------------------------------------------------------------------------


def all_answered(numbers: list[int], result: int | None = None) -> Check:
    """Each proposed context has exactly one result."""

    def check(t: Try, a: Accepted) -> None:
        t.check(sorted(r[0] for r in a.results) == sorted(numbers), f"results for {sorted(r[0] for r in a.results)}")
        if result is not None:
            t.check(all(r[1] == result for r in a.results), f"results {sorted({r[1] for r in a.results})}")

    return check


ODD = list(range(1, 256, 2))
negotiation(
    "UL-055",
    "128 presentation contexts are all answered",
    "PS3.8 7.1.1.13: ids are odd, 1 to 255",
    "verification on ids 1, 3 ... 255",
    lambda t: t.request(contexts=[context(n) for n in ODD]),
    with_then(ACCEPTED, "128 results, all accepted"),
    all_answered(ODD, 0),
)
negotiation(
    "UL-056",
    "Contexts in descending order of ids",
    "PS3.8 7.1.1.13: ids need only be odd and unique",
    "ids 9, 5, 255, 1",
    lambda t: t.request(contexts=[context(n) for n in (9, 5, 255, 1)]),
    with_then(ACCEPTED, "a result for each"),
    all_answered([1, 5, 9, 255], 0),
)
for number, what, uid in (
    (57, "unknown", "1.2.826.0.1.3680043.9.9999.1"),
    (58, "empty", ""),
    (59, "not a UID", "hello"),
    (60, "65 characters long", "1.2." + "3" * 61),
):
    negotiation(
        f"UL-{number:03}",
        f"Abstract syntax {what}: its context is not accepted, the other is",
        "PS3.8 7.1.1.14, table 9-18",
        f"context 1 verification, context 3 abstract syntax {what}",
        lambda t, uid=uid: t.request(contexts=[context(1), context(3, uid)]),
        with_then(
            Expect(("AC",) if number == 57 else ANSWERED), "context 1 result 0, context 3 result 1 to 4 (unknown classes may be accepted by policy)"
        ),
        lambda t, a, number=number: (
            t.check(a.result(1) == 0, "context 1 is not accepted"),
            t.check(number == 57 or a.result(3) != 0 or not t.cloister, "context 3 is accepted"),
        ),
    )
negotiation(
    "UL-061",
    "An unknown transfer syntax is answered by result 4",
    "PS3.8 table 9-18",
    "verification with transfer syntax 1.2.3.4 only",
    lambda t: t.request(contexts=[context(1, VERIFICATION, ("1.2.3.4",))]),
    with_then(Expect(("AC", "RJ *")), "result 4"),
    lambda t, a: t.check(a.result(1) == 4, f"result {a.result(1)}"),
)
negotiation(
    "UL-062",
    "A known transfer syntax behind unknown ones is found",
    "PS3.8 7.1.1.14",
    "transfer syntaxes 1.2.3.4, 1.2.3.5, implicit little endian",
    lambda t: t.request(contexts=[context(1, VERIFICATION, ("1.2.3.4", "1.2.3.5", IMPLICIT))]),
    with_then(ACCEPTED, "implicit little endian accepted"),
    lambda t, a: t.check(a.syntax(1) == IMPLICIT, f"{a.syntax(1)}"),
)
negotiation(
    "UL-063",
    "64 transfer syntaxes in one context",
    "PS3.8 9.3.2.2: one or more transfer syntax sub-items",
    "63 private transfer syntaxes and implicit little endian",
    lambda t: t.request(
        contexts=[context(1, VERIFICATION, [f"2.25.{n}" for n in range(1000, 1063)] + [IMPLICIT])]
    ),
    with_then(ACCEPTED, "implicit little endian accepted"),
    lambda t, a: t.check(a.syntax(1) == IMPLICIT, f"{a.syntax(1)}"),
)
negotiation(
    "UL-064",
    "The same transfer syntax twice in a context",
    "PS3.8 9.3.2.2",
    "implicit little endian twice",
    lambda t: t.request(contexts=[context(1, VERIFICATION, (IMPLICIT, IMPLICIT))]),
    Expect(ANSWERED, ("AC",)),
)
negotiation(
    "UL-065",
    "The same abstract syntax in several contexts",
    "PS3.8 7.1.1.13: an abstract syntax may appear more than once",
    "CR storage on ids 1 and 3 with different transfer syntaxes",
    lambda t: t.request(contexts=[context(1, CR, (IMPLICIT,)), context(3, CR, (EXPLICIT,))]),
    with_then(ACCEPTED, "each accepted context has its own syntax"),
    lambda t, a: t.check(
        a.syntax(1) in (None, IMPLICIT) and a.syntax(3) in (None, EXPLICIT) and len(a.results) == 2, f"{a.results}"
    ),
)


def not_accepted(wrong: int) -> Check:
    """The illegal context must not be usable."""
    return lambda t, a: t.check(a.result(wrong) != 0, f"context {wrong} is accepted")


for number, what, contexts, wrong in (
    (66, "no transfer syntax", [context(1), context(3, VERIFICATION, ())], 3),
    (67, "no abstract syntax", [context(1), context(3, None)], 3),
    (68, "no sub-items", [context(1), item(0x20, b"\3\0\0\0")], 3),
    (69, "an empty transfer syntax", [context(1), context(3, VERIFICATION, ("",))], 3),
):
    negotiation(
        f"UL-{number:03}",
        f"A context with {what} is not accepted",
        "PS3.8 9.3.2.2: one abstract syntax, one or more transfer syntaxes",
        f"context 1 correct, context 3 with {what}",
        lambda t, contexts=contexts: t.request(contexts=contexts),
        with_then(Expect(ANSWERED), f"context {wrong} not accepted"),
        not_accepted(wrong),
    )
negotiation(
    "UL-070",
    "No presentation context at all",
    "PS3.8 9.3.2: one or more presentation context items",
    "application context and user information only",
    lambda t: t.request(contexts=[]),
    with_then(Expect(ANSWERED), "no context accepted"),
    lambda t, a: t.check(not a.results, f"{a.results}"),
)
for number, wrong in ((71, 2), (72, 0), (73, 254)):
    negotiation(
        f"UL-{number:03}",
        f"Presentation context id {wrong} is not odd",
        "PS3.8 7.1.1.13, table 9-13: odd integers between 1 and 255",
        f"verification on ids 1 and {wrong}",
        lambda t, wrong=wrong: t.request(contexts=[context(1), context(wrong)]),
        with_then(Expect(ANSWERED), f"cloister: context {wrong} not accepted"),
        not_accepted(wrong),
        generic_severity=SHOULD,
    )


def _no_ambiguity(t: Try, a: Accepted) -> None:
    accepted = [r for r in a.results if r[0] == 1 and r[1] == 0]
    t.check(len(accepted) <= 1, f"id 1 is accepted {len(accepted)} times")


negotiation(
    "UL-074",
    "A presentation context id used twice is not accepted twice",
    "PS3.8 7.1.1.13: each id shall be unique",
    "id 1 for verification and for CR storage",
    lambda t: t.request(contexts=[context(1), context(1, CR, (EXPLICIT,))]),
    with_then(Expect(ANSWERED), "id 1 accepted once at most"),
    _no_ambiguity,
    generic_severity=SHOULD,
)
negotiation(
    "UL-075",
    "Two abstract syntaxes in one context",
    "PS3.8 9.3.2.2: one abstract syntax sub-item",
    "context 3 with CR storage and verification",
    lambda t: t.request(
        contexts=[context(1), item(0x20, b"\3\0\0\0" + item(0x30, CR.encode()) + item(0x30, VERIFICATION.encode()) + item(0x40, EXPLICIT.encode()))]
    ),
    Expect(ANSWERED),
)

# --- items that are not known, or not where they belong -------------------------------------------

for number, what, where, kind in (
    (76, "between the other items", "inside", 0x60),
    (77, "after the last item", "after", 0x7F),
    (78, "of type 00H", "inside", 0x00),
    (79, "of type FFH with 1,000 bytes", "after", 0xFF),
):

    def _unknown_item(t: Try, where: str = where, kind: int = kind) -> Request:
        extra = item(kind, b"x" * (1000 if kind == 0xFF else 10))
        made = t.request()
        parts = [made.application, b"".join(made.contexts), made.user]
        parts.insert(1 if where == "inside" else 3, extra)
        made.variable = b"".join(parts)
        return made

    negotiation(
        f"UL-{number:03}",
        f"An item of unknown type {what} is skipped",
        "PS3.8 9.3: items of unrecognized types shall be ignored and skipped",
        f"an item {kind:02X}H {what}",
        _unknown_item,
        ACCEPTED,
    )
negotiation(
    "UL-080",
    "A sub-item of unknown type inside a context is skipped",
    "PS3.8 9.3: items of unrecognized types shall be ignored and skipped",
    "a sub-item 4FH in the presentation context item",
    lambda t: t.request(contexts=[context(1, extra=item(0x4F, b"new"))]),
    with_then(ACCEPTED, "context 1 accepted"),
    lambda t, a: t.check(a.result(1) == 0, f"result {a.result(1)}"),
)
for number, kind in ((81, 0x5A), (82, 0x5F), (83, 0x60), (84, 0xFF)):
    negotiation(
        f"UL-{number:03}",
        f"A user sub-item of unknown type {kind:02X}H is ignored",
        "PS3.8 D.2 note 2: acceptors are required to ignore unrecognized sub-items",
        f"user information with a sub-item {kind:02X}H",
        lambda t, kind=kind: t.request(user=user_info(item(kind, b"\1\2\3\4"))),
        ACCEPTED,
    )
negotiation(
    "UL-085",
    "User sub-items in any order",
    "PS3.8 9.3.2.3 note: any order",
    "version name, unknown, implementation class, maximum length",
    lambda t: t.request(
        user=item(0x50, item(0x55, b"CONFORMANCE") + item(0x77, b"") + item(0x52, IMPLEMENTATION.encode()) + max_length(16384))
    ),
    ACCEPTED,
)
for number, what, build in (
    (86, "user information before the contexts", lambda r: r.application + r.user + b"".join(r.contexts)),
    (87, "the application context last", lambda r: b"".join(r.contexts) + r.user + r.application),
    (88, "two user information items", lambda r: r.application + b"".join(r.contexts) + r.user + r.user),
    (89, "no user information", lambda r: r.application + b"".join(r.contexts)),
):

    def _ordered(t: Try, build: Callable[[Request], bytes] = build) -> Request:
        made = t.request()
        made.variable = build(made)
        return made

    negotiation(
        f"UL-{number:03}",
        f"Items: {what}",
        "PS3.8 9.3 (increasing order of types), 9.3.2",
        what,
        _ordered,
        Expect(ANSWERED),
    )

# --- maximum length --------------------------------------------------------------------------------

for number, value in ((90, 0), (91, 4095), (92, 16384), (93, 131072), (94, 0xFFFFFFFF)):

    @case(
        f"UL-{number:03}",
        f"Maximum length {value}" + (" (no limit)" if value == 0 else ""),
        "PS3.8 D.1.1",
        f"maximum length sub-item {value}, C-ECHO-RQ",
        "AC; STATUS 0000 in P-DATA-TF of at most that length",
    )
    def _(t: Try, value: int = value) -> None:
        made = t.associate([context(1)], user=user_info(max_pdu=value), our_max_pdu=value)
        made.usable()
        made.release()


for number, value in ((95, 64), (96, 32), (97, 16), (98, 8)):

    @case(
        f"UL-{number:03}",
        f"Maximum length {value}: the response is fragmented to fit",
        "PS3.8 D.1.1: shall never be exceeded; annex E.1",
        f"maximum length sub-item {value}, C-ECHO-RQ",
        "STATUS 0000 in P-DATA-TF of at most that length, or refused: RJ or ABORT or CLOSED",
    )
    def _(t: Try, value: int = value) -> None:
        request = t.request(contexts=[context(1)], user=user_info(max_pdu=value))
        connection = t.connect()
        connection.max_pdu = value
        connection.send(request.encode())
        answer = t.match(connection.answer(), ("AC", *REFUSED))
        if answer.kind == "AC":
            connection.send(p_data(pdv(1, 3, echo_rq())))
            answer = t.match(connection.answer(), ("STATUS 0000", *ENDED))
        connection.close()
        t.alive()


for number, value in ((99, 1), (100, 6)):

    @case(
        f"UL-{number:03}",
        f"Maximum length {value} leaves no room for a fragment",
        "PS3.8 D.1.1, 9.3.5.1: a value has six bytes before its fragment",
        f"maximum length sub-item {value}, C-ECHO-RQ",
        "RJ, ABORT or CLOSED; never a P-DATA-TF longer than that",
    )
    def _(t: Try, value: int = value) -> None:
        connection = t.connect()
        connection.max_pdu = value
        connection.send(t.request(contexts=[context(1)], user=user_info(max_pdu=value)).encode())
        answer = t.match(connection.answer(), ("AC", *REFUSED))
        if answer.kind == "AC":
            connection.send(p_data(pdv(1, 3, echo_rq())))
            answer = connection.answer()
            t.match(answer, (*ENDED, "SILENT"))
        connection.close()
        t.alive()


for number, what, user in (
    (101, "missing", user_info(max_pdu=None)),
    (102, "given twice with different values", user_info(max_length(8192))),
    (103, "of three bytes", item(0x50, item(0x51, b"\0\x40\0") + item(0x52, IMPLEMENTATION.encode()))),
    (104, "of five bytes", item(0x50, item(0x51, b"\0\0\x40\0\0") + item(0x52, IMPLEMENTATION.encode()))),
):
    negotiation(
        f"UL-{number:03}",
        f"Maximum length sub-item {what}",
        "PS3.8 D.1.1: one sub-item of four bytes",
        f"maximum length sub-item {what}",
        lambda t, user=user: t.request(user=user),
        Expect(ANSWERED),
    )
negotiation(
    "UL-105",
    "Implementation class UID missing",
    "PS3.7 D.3.3.2.1: shall be present",
    "user information with the maximum length only",
    lambda t: t.request(user=user_info(implementation=False)),
    Expect(ANSWERED),
)
negotiation(
    "UL-106",
    "Implementation version name of 17 characters",
    "PS3.7 D.3.3.2.3: 1 to 16 characters",
    "version name of 17 characters",
    lambda t: t.request(user=user_info(item(0x55, b"X" * 17))),
    Expect(ANSWERED, ("AC",)),
)
negotiation(
    "UL-107",
    "A user sub-item that is longer than its item",
    "PS3.8 9.3.2.3",
    "implementation class sub-item with length 4,000",
    lambda t: t.request(user=item(0x50, max_length(16384) + item(0x52, IMPLEMENTATION.encode(), length=4000))),
    Expect((*REFUSED, "AC"), REFUSED),
)

# --- optional negotiation --------------------------------------------------------------------------


def _window(proposed: tuple[int, int]) -> Check:
    def check(t: Try, a: Accepted) -> None:
        for data in a.sub_items(0x53):
            t.check(len(data) == 4, f"{len(data)} bytes")
            for got, limit in zip(struct.unpack(">HH", data), proposed, strict=True):
                t.check(limit == 0 or 1 <= got <= limit, f"{got} where {limit} were proposed")
            t.check(not t.cloister or struct.unpack(">HH", data) == (1, 1), "an asynchronous window")

    return check


for number, window in ((108, (1, 1)), (109, (5, 5)), (110, (0, 0)), (111, (65535, 1))):
    negotiation(
        f"UL-{number:03}",
        f"Asynchronous operations window {window[0]}/{window[1]}",
        "PS3.7 D.3.3.3: the acceptor's values do not exceed the proposed ones",
        f"sub-item 53H {window[0]}/{window[1]}",
        lambda t, window=window: t.request(user=user_info(item(0x53, struct.pack(">HH", *window)))),
        with_then(ACCEPTED, "53H absent (= 1/1) or not above the proposal; cloister: absent or 1/1"),
        _window(window),
    )


def _roles(uid: str, proposed: tuple[int, int]) -> Check:
    def check(t: Try, a: Accepted) -> None:
        for data in a.sub_items(0x54):
            (length,) = struct.unpack(">H", data[:2])
            t.check(len(data) == length + 4, f"{len(data)} bytes")
            if data[2 : 2 + length].decode("ascii", "replace") != uid:
                t.check(False, "roles for another SOP class")
            for got, asked in zip(data[-2:], proposed, strict=True):
                t.check(got in (0, 1) and got <= asked, f"role {got} where {asked} was proposed")

    return check


for number, scu, scp in ((112, 1, 0), (113, 1, 1), (114, 0, 1), (115, 0, 0)):
    negotiation(
        f"UL-{number:03}",
        f"Role selection SCU {scu}, SCP {scp} for CR storage",
        "PS3.7 D.3.3.4: a role is granted only where it was proposed",
        f"sub-item 54H {scu}/{scp}",
        lambda t, scu=scu, scp=scp: t.request(
            contexts=[context(1), context(3, CR, (EXPLICIT,))], user=user_info(role(CR, scu, scp))
        ),
        with_then(ACCEPTED, "54H absent or granting no more than proposed"),
        _roles(CR, (scu, scp)),
        generic_severity=SHOULD if (scu, scp) == (0, 0) else None,
    )
negotiation(
    "UL-116",
    "Role selection for a SOP class that is not proposed",
    "PS3.7 D.3.3.4",
    "sub-item 54H for CT storage, contexts without it",
    lambda t: t.request(user=user_info(role("1.2.840.10008.5.1.4.1.1.2", 1, 1))),
    Expect(ANSWERED, ("AC",)),
)
for number, what, sub_item in (
    (117, "extended negotiation of storage, six bytes", extended(CR, b"\2\0\0\0\0\0")),
    (118, "extended negotiation of an unknown SOP class", extended("1.2.3.4.5", b"\1")),
    (119, "extended negotiation without application information", extended(CR, b"")),
    (120, "common extended negotiation", common_extended(CR, "1.2.840.10008.4.2")),
    (121, "common extended negotiation with related classes", common_extended(CR, "1.2.840.10008.4.2", (CR, "1.2.3"))),
):
    negotiation(
        f"UL-{number:03}",
        f"Optional sub-item: {what}",
        "PS3.7 D.3.3.5, D.3.3.6: not answered, or 56H for the same SOP class; never 57H",
        what,
        lambda t, sub_item=sub_item: t.request(
            contexts=[context(1), context(3, CR, (EXPLICIT,))], user=user_info(sub_item)
        ),
        with_then(ACCEPTED, "no sub-item 57H"),
        lambda t, a: t.check(not a.sub_items(0x57), "57H was answered"),
    )
negotiation(
    "UL-122",
    "Extended negotiation whose UID length passes its end",
    "PS3.7 table D.3-11",
    "sub-item 56H of 4 bytes with a UID length of 500",
    lambda t: t.request(user=user_info(item(0x56, b"\x01\xf41."))),
    Expect(ANSWERED),
)
for number, kind, positive, primary, secondary in (
    (123, 1, 0, b"ward7", b""),
    (124, 1, 1, b"ward7", b""),
    (125, 2, 0, b"ward7", b"secret"),
    (126, 2, 1, b"ward7", b"secret"),
    (127, 3, 0, b"\x60\x82" + bytes(300), b""),
    (128, 4, 0, b"<saml/>" * 100, b""),
    (129, 5, 0, b"eyJhbGciOiJub25lIn0.e30.", b""),
    (130, 5, 1, b"eyJhbGciOiJub25lIn0.e30.", b""),
):
    asked = "asked for" if positive else "not asked for"

    def _no_identity(t: Try, a: Accepted, positive: int = positive) -> None:
        t.check(positive or not a.sub_items(0x59), "a server response that was not asked for")

    negotiation(
        f"UL-{number:03}",
        f"User identity type {kind}, response {asked}",
        "PS3.7 D.3.3.7: 59H only when a response is asked for",
        f"sub-item 58H type {kind}, response {asked}",
        lambda t, args=(kind, positive, primary, secondary): t.request(user=user_info(identity(*args))),
        with_then(Expect(("AC", "RJ *"), ("AC",)), "59H only when asked for"),
        _no_identity,
    )
for number, kind in ((131, 0), (132, 6), (133, 255)):
    negotiation(
        f"UL-{number:03}",
        f"User identity type {kind} does not exist",
        "PS3.7 table D.3-14",
        f"sub-item 58H type {kind}",
        lambda t, kind=kind: t.request(user=user_info(identity(kind, 0, b"x"))),
        Expect(ANSWERED),
    )
negotiation(
    "UL-134",
    "User identity whose field passes its end",
    "PS3.7 table D.3-14",
    "primary field length 60,000 in a sub-item of 10 bytes",
    lambda t: t.request(user=user_info(item(0x58, b"\1\0\xea\x60abcdef"))),
    Expect(ANSWERED, REFUSED),
)
negotiation(
    "UL-135",
    "A SAML assertion of 50,000 bytes",
    "PS3.7 D.3.3.7: lengths have 16 bits",
    "sub-item 58H type 4 with 50,000 bytes",
    lambda t: t.request(user=user_info(identity(4, 0, b"s" * 50_000))),
    Expect(("AC", "RJ *"), ("AC",)),
)

# --- lengths ---------------------------------------------------------------------------------------

for number, what, build in (
    (136, "PDU length 0", lambda raw: pdu(1, b"")),
    (137, "PDU length 67, one short of the fixed fields", lambda raw: pdu(1, raw[6:73])),
    (138, "PDU length 68, no items", lambda raw: pdu(1, raw[6:74])),
    (139, "one byte after the last item", lambda raw: pdu(1, raw[6:] + b"\0")),
    (140, "three bytes after the last item", lambda raw: pdu(1, raw[6:] + b"\x50\0\0")),
    (141, "an item that passes the end of the PDU", lambda raw: pdu(1, raw[6:] + item(0x55, b"", length=9))),
):
    negotiation(
        f"UL-{number:03}",
        f"A-ASSOCIATE-RQ with {what}",
        "PS3.8 9.3.1, 9.3.2",
        what,
        lambda t, build=build: build(t.request().encode()),
        Expect(REFUSED if number < 139 else ANSWERED, REFUSED),
    )


@case(
    "UL-142",
    "An A-ASSOCIATE-RQ cut at every byte, then closed",
    "PS3.8 9.2.3: transport connection closed in Sta2 is AA-5",
    "a request cut after 0, 1, 2 ... bytes, each on its own connection, half-closed",
    "ABORT, RJ or CLOSED for each; others are served afterwards",
    limit=60.0,
)
def _(t: Try) -> None:
    whole = t.request().encode()
    for cut in range(len(whole)):
        answer = t.reply(whole[:cut], finish=True)
        t.got = f"cut at {cut}: {answer}"
        t.match(answer, REFUSED)
    t.alive()


@case(
    "UL-143",
    "An A-ASSOCIATE-RQ shortened at every byte with a matching length",
    "PS3.8 9.3.2",
    "a request whose items are cut after 0, 1, 2 ... bytes, PDU length corrected",
    "an answer for each: AC, RJ, ABORT or CLOSED; others are served afterwards",
    limit=60.0,
)
def _(t: Try) -> None:
    whole = t.request().encode()
    for cut in range(6, len(whole)):
        answer = t.reply(pdu(1, whole[6:cut]))
        t.got = f"cut at {cut}: {answer}"
        t.match(answer, ANSWERED)
    t.alive()


@case(
    "UL-144",
    "Each byte of an A-ASSOCIATE-RQ's items set to FFH in turn",
    "PS3.8 9.3.2",
    "a request with one byte changed, each on its own connection",
    "an answer for each: AC, RJ, ABORT or CLOSED; others are served afterwards",
    limit=60.0,
)
def _(t: Try) -> None:
    whole = t.request().encode()
    for at in range(74, len(whole)):
        answer = t.reply(whole[:at] + b"\xff" + whole[at + 1 :], finish=True)
        t.got = f"byte {at}: {answer}"
        t.match(answer, ANSWERED)
    t.alive()


# --- how the bytes arrive --------------------------------------------------------------------------


@case(
    "UL-145",
    "A request that arrives byte by byte",
    "PS3.8 9.1.4: TCP is a stream",
    "an A-ASSOCIATE-RQ in one-byte segments",
    "AC; STATUS 0000",
)
def _(t: Try) -> None:
    connection = t.connect()
    for byte in t.request().encode():
        connection.send(bytes([byte]))
    t.match(connection.answer(), ("AC",))
    for byte in p_data(pdv(1, 3, echo_rq())):
        connection.send(bytes([byte]))
    t.match(connection.answer(), ("STATUS 0000",))
    connection.close()


@case(
    "UL-146",
    "Data sent before the association is accepted",
    "PS3.8 9.2.3: P-DATA-TF in Sta3 is AA-8; if it is read later, it is in Sta6",
    "A-ASSOCIATE-RQ and C-ECHO-RQ in one segment",
    "ABORT, or AC and STATUS 0000",
)
def _(t: Try) -> None:
    connection = t.connect()
    connection.send(t.request().encode() + p_data(pdv(1, 3, echo_rq())))
    answer = t.match(connection.answer(), ("AC", *ENDED))
    if answer.kind == "AC":
        t.match(connection.answer(), ("STATUS 0000", *ENDED))
    connection.close()
    t.alive()


@case(
    "UL-147",
    "Data and release in one segment",
    "PS3.8 9.1.4, 7.2",
    "C-ECHO-RQ and A-RELEASE-RQ in one segment",
    "STATUS 0000, then RELEASE-RP",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(p_data(pdv(1, 3, echo_rq())) + release_rq())
    t.match(made.answer(), ("STATUS 0000",))
    t.match(made.answer(), ("RELEASE-RP",))


# --- the state machine ------------------------------------------------------------------------------

FIRST = (
    ("P-DATA-TF", lambda t: p_data(pdv(1, 3, echo_rq()))),
    ("A-RELEASE-RQ", lambda t: release_rq()),
    ("A-RELEASE-RP", lambda t: pdu(6, bytes(4))),
    ("A-ASSOCIATE-AC", lambda t: b"\2" + t.request().encode()[1:]),
    ("A-ASSOCIATE-RJ", lambda t: pdu(3, b"\0\1\1\1")),
    ("a PDU of type 00H", lambda t: pdu(0, bytes(4))),
    ("a PDU of type 08H", lambda t: pdu(8, bytes(4))),
    ("a PDU of type FFH", lambda t: pdu(255, bytes(4))),
)
for offset, (what, first) in enumerate(FIRST):
    negotiation(
        f"UL-{148 + offset:03}",
        f"{what} before any association",
        f"{STATE}: Sta2, AA-1: send A-ABORT",
        what,
        lambda t, first=first: first(t),
        Expect(ENDED, ("ABORT *",)),
    )


@case(
    "UL-156",
    "A-ABORT before any association closes the connection",
    f"{STATE}: Sta2, A-ABORT is AA-2",
    "A-ABORT",
    "CLOSED within the time-out",
)
def _(t: Try) -> None:
    t.match(t.reply(abort()), ("CLOSED",))
    t.alive()


SIXTH = (
    ("A-ASSOCIATE-RQ again", lambda t: t.request().encode()),
    ("A-ASSOCIATE-AC", lambda t: b"\2" + t.request().encode()[1:]),
    ("A-ASSOCIATE-RJ", lambda t: pdu(3, b"\0\1\1\1")),
    ("A-RELEASE-RP", lambda t: pdu(6, bytes(4))),
    ("a PDU of type 00H", lambda t: pdu(0, bytes(4))),
    ("a PDU of type 08H", lambda t: pdu(8, bytes(4))),
    ("a PDU of type FFH", lambda t: pdu(255, bytes(4))),
)
for offset, (what, sixth) in enumerate(SIXTH):

    @case(
        f"UL-{157 + offset:03}",
        f"{what} on an established association",
        f"{STATE}: Sta6, AA-8: A-ABORT by the provider",
        what,
        "ABORT 2/*",
    )
    def _(t: Try, sixth: Callable[[Try], bytes] = sixth) -> None:
        made = t.associate([context(1)])
        made.connection.send(sixth(t))
        t.match(made.answer(), PROVIDER_ABORT)
        made.connection.close()
        t.alive()


for number, what, data in (
    (164, "by the user", abort(0, 0)),
    (165, "by the provider, unexpected PDU", abort(2, 2)),
    (166, "with source and reason FFH", abort(255, 255)),
):

    @case(
        f"UL-{number:03}",
        f"A-ABORT {what} ends an established association",
        f"{STATE}: Sta6, A-ABORT is AA-3",
        f"A-ABORT {what}",
        "CLOSED, nothing sent",
    )
    def _(t: Try, data: bytes = data) -> None:
        made = t.associate([context(1)])
        made.connection.send(data)
        t.match(made.answer(), ("CLOSED",) if data[8] < 3 else ("CLOSED", "ABORT *"))
        t.alive()


@case(
    "UL-167",
    "A-ABORT in the middle of a command",
    f"{STATE}: Sta6, A-ABORT is AA-3",
    "half a C-ECHO-RQ, A-ABORT",
    "CLOSED, nothing sent",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(p_data(pdv(1, 1, echo_rq()[:20])) + abort())
    t.match(made.answer(), ("CLOSED",))
    t.alive()


@case(
    "UL-168",
    "A-ABORT in the middle of a data set: nothing is stored",
    f"{STATE}: Sta6, A-ABORT is AA-3",
    "C-STORE-RQ, half its data set, A-ABORT",
    "CLOSED; with a control socket: no object",
)
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    data = encode(image(instance, t.uid()), EXPLICIT)
    made.send(pdv(3, 3, Store(CR, instance).encode()))
    made.send(pdv(3, 0, data[: len(data) // 2 & ~1]))
    made.connection.send(abort())
    t.match(made.answer(), ("CLOSED",))
    t.alive()
    if t.target.control is not None:
        t.check(not t.ask("studies"), "an object that was never complete is listed")


@case(
    "UL-169",
    "A-RELEASE-RQ with reserved bytes set",
    "PS3.8 table 9-24: not tested when received",
    "A-RELEASE-RQ with reserved bytes FFH",
    "RELEASE-RP",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(release_rq(b"\xff" * 4))
    t.match(made.answer(), ("RELEASE-RP",))


for number, length in ((170, 0), (171, 8)):

    @case(
        f"UL-{number:03}",
        f"A-RELEASE-RQ of {length} bytes",
        "PS3.8 table 9-24: fixed length 4",
        f"A-RELEASE-RQ with PDU length {length}",
        "ABORT, CLOSED or RELEASE-RP",
    )
    def _(t: Try, length: int = length) -> None:
        made = t.associate([context(1)])
        made.connection.send(pdu(5, bytes(length)))
        t.match(made.answer(), ("RELEASE-RP", *ENDED))
        t.alive()


@case(
    "UL-172",
    "The acceptor closes after a release when the requestor does",
    f"{STATE}: Sta13",
    "A-RELEASE-RQ, then half-close",
    "RELEASE-RP, CLOSED",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(release_rq())
    t.match(made.answer(), ("RELEASE-RP",))
    made.connection.finish_sending()
    t.match(made.answer(), ("CLOSED",))


@case(
    "UL-173",
    "The acceptor closes after a release even when the requestor does not",
    f"{STATE}: Sta13, ARTIM timer expired is AA-2",
    "A-RELEASE-RQ, then nothing",
    "RELEASE-RP, CLOSED within 60 s",
    slow=True,
    limit=90.0,
    # The standard has the timer, but no figure.
    generic_severity=SHOULD,
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(release_rq())
    t.match(made.answer(), ("RELEASE-RP",))
    took = closed_within(made.connection, 60)
    t.check(took is not None, "still open after 60 s")
    t.notes["closed_after_s"] = round(took or 0, 1)


@case(
    "UL-174",
    "Two A-RELEASE-RQ are answered once",
    f"{STATE}: Sta13, A-RELEASE-RQ is AA-6 or AA-7",
    "two A-RELEASE-RQ in one segment",
    "RELEASE-RP, then CLOSED or ABORT",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(release_rq() + release_rq())
    t.match(made.answer(), ("RELEASE-RP",))
    made.connection.finish_sending()
    t.match(made.answer(), ENDED)


@case(
    "UL-175",
    "Data after a release is ignored",
    f"{STATE}: Sta13, P-DATA-TF is AA-6",
    "A-RELEASE-RQ and a C-ECHO-RQ in one segment",
    "RELEASE-RP and no response",
)
def _(t: Try) -> None:
    made = t.associate([context(1)])
    made.connection.send(release_rq() + p_data(pdv(1, 3, echo_rq())))
    t.match(made.answer(), ("RELEASE-RP",))
    made.connection.finish_sending()
    t.match(made.answer(), ENDED)


@case(
    "UL-176",
    "A-RELEASE-RQ in the middle of a data set",
    "PS3.8 7.2: a release is not for an unfinished operation",
    "C-STORE-RQ, half its data set, A-RELEASE-RQ",
    "ABORT, CLOSED or RELEASE-RP; with a control socket: no object",
)
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    data = encode(image(instance, t.uid()), EXPLICIT)
    made.send(pdv(3, 3, Store(CR, instance).encode()))
    made.send(pdv(3, 0, data[:100]))
    made.connection.send(release_rq())
    t.match(made.answer(), ("RELEASE-RP", *ENDED))
    made.connection.close()
    t.alive()
    if t.target.control is not None:
        t.check(not t.ask("studies"), "an object that was never complete is listed")


@case(
    "UL-177",
    "A rejected requestor that does not close is let go",
    f"{STATE}: Sta13, ARTIM timer",
    "a request with protocol version 0, then nothing",
    "RJ; CLOSED within 60 s",
    slow=True,
    limit=90.0,
    # The standard has the timer, but no figure.
    generic_severity=SHOULD,
)
def _(t: Try) -> None:
    connection = t.connect()
    connection.send(t.request(version=0).encode())
    t.match(connection.answer(), ("RJ *",))
    took = closed_within(connection, 60)
    t.check(took is not None, "still open after 60 s")
    t.notes["closed_after_s"] = round(took or 0, 1)


@case(
    "UL-178",
    "A connection on which nothing is sent is closed",
    f"{STATE}: Sta2, ARTIM timer expired is AA-2",
    "nothing",
    "CLOSED within 60 s",
    slow=True,
    limit=90.0,
    # The standard has the timer, but no figure.
    generic_severity=SHOULD,
)
def _(t: Try) -> None:
    took = closed_within(t.connect(), 60)
    t.check(took is not None, "still open after 60 s")
    t.notes["closed_after_s"] = round(took or 0, 1)


@case(
    "UL-179",
    "Eight associations at once, interleaved",
    "PS3.8 9.1.2: one association per transport connection",
    "eight associations, C-ECHO-RQ on each in turn, three rounds",
    "STATUS 0000 for each with its own message id",
    generic_severity=SHOULD,
)
def _(t: Try) -> None:
    several = [t.associate([context(1)]) for _ in range(8)]
    for round_ in range(3):
        for at, made in enumerate(several):
            t.match(made.echo(1000 * round_ + at), ("STATUS 0000",))
    for made in several:
        made.release()


@case(
    "UL-180",
    "Fifty associations one after the other",
    "pynetdicom#328, fo-dicom#1468",
    "fifty times: associate, echo, release",
    "STATUS 0000 each time",
)
def _(t: Try) -> None:
    for _ in range(50):
        made = t.associate([context(1)])
        made.usable()
        made.release()
