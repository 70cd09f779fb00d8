"""What a case is, what it may expect, and what a running case can do."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import dataset
from .peer import (
    CR,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Accepted,
    Answer,
    Connection,
    Gone,
    Late,
    Request,
    Store,
    context,
    echo_rq,
    p_data,
    pdv,
    release_rq,
)

# Expectations are patterns over what an `Answer` prints as.
SUCCESS = ("STATUS 0000",)
STORED = ("STATUS 0000", "STATUS B0*")
FAILURE = ("STATUS [1-9AC]*", "STATUS 01*", "STATUS 02*")
# PS3.8 section 9.2: the provider aborts, or the transport connection ends.
ENDED = ("ABORT *", "CLOSED")
ABORTED = ("ABORT *",)
# A protocol error on an established association is AA-8: source 2 with a reason (PS3.8 table 9-9).
PROVIDER_ABORT = ("ABORT 2/*",)
REFUSED = ("RJ *", "ABORT *", "CLOSED")
ANSWERED = ("AC", "RJ *", "ABORT *", "CLOSED")
HANDLED = ("STATUS *", "ABORT *", "CLOSED")

MUST, SHOULD = "must", "should"


class Failed(Exception):
    """The receiver did something else than expected."""


class NotApplicable(Exception):
    """The receiver does not offer what the case is about."""


@dataclass(frozen=True)
class Expect:
    """Allowed outcomes: by the standard, and those to which the cloister profile narrows them."""

    generic: tuple[str, ...]
    cloister: tuple[str, ...] | None = None
    then: str = ""

    def of(self, profile: str) -> tuple[str, ...]:
        """The patterns of a profile."""
        return self.cloister if profile == "cloister" and self.cloister is not None else self.generic

    def __str__(self) -> str:
        words = " or ".join(spelled(self.generic))
        if self.cloister is not None:
            words += f"; cloister: {' or '.join(spelled(self.cloister))}"
        return words + (f"; {self.then}" if self.then else "")


def spelled(patterns: Iterable[str]) -> list[str]:
    """Patterns for people."""
    return [pattern.replace("[1-9AC]*", "Axxx/Cxxx").removesuffix(" *") for pattern in patterns]


@dataclass(frozen=True)
class Case:
    """One case of the catalogue."""

    id: str
    title: str
    source: str
    sends: str
    expects: str
    run: Callable[[Try], None]
    severity: str = MUST
    generic_severity: str | None = None
    slow: bool = False
    # "alone": nothing else runs meanwhile. "last": after all others.
    when: str = ""
    needs: tuple[str, ...] = ()
    limit: float = 30.0

    @property
    def group(self) -> str:
        """The letters of the id."""
        return self.id.split("-")[0]

    def severity_for(self, profile: str) -> str:
        """Must or should."""
        return self.generic_severity or self.severity if profile == "generic" else self.severity


GROUPS = {
    "UL": "Association (PS3.8, PS3.7 annex D)",
    "DM": "DIMSE messages (PS3.7)",
    "ST": "Storage (PS3.4 annex B)",
    "EN": "Encoding (PS3.5)",
    "PH": "Placement of identifiers",
    "HP": "Hostile peers",
    "TL": "TLS (PS3.15 annex B.12)",
}


@dataclass(frozen=True)
class Target:
    """A receiver and what is known about it."""

    host: str
    port: int
    called: str
    profile: str = "generic"
    calling: str | None = None
    denied_calling: str | None = None
    control: Path | None = None
    scan: tuple[Path, ...] = ()
    metrics: tuple[str, int] | None = None
    pid: int | None = None
    seed: str = "0"
    patience: float = 10.0
    max_object: int | None = None
    quota: bool = False
    tls_port: int | None = None
    tls_files: Path | None = None
    tls_ae: str | None = None
    names: str = "receiver"

    @property
    def address(self) -> tuple[str, int]:
        """For sockets."""
        return self.host, self.port


def calling_title(case: str, seed: str) -> str:
    """The calling AE title of a case in a run: at most 16 characters."""
    return f"{case.replace('-', '_')}_{hashlib.sha256(seed.encode()).hexdigest()[:7].upper()}"[:16]


@dataclass
class Try:
    """One run of one case against one receiver."""

    case: Case
    target: Target
    until: float
    open: list[Connection] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)
    counter: int = 0
    got: str = ""

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.target.seed}/{self.case.id}")

    @property
    def cloister(self) -> bool:
        """Whether the narrower profile holds."""
        return self.target.profile == "cloister"

    @property
    def calling(self) -> str:
        """This case's own AE title, so that the control socket can tell cases and runs apart."""
        return self.target.calling or calling_title(self.case.id, self.target.seed)

    def uid(self) -> str:
        """A new UID, the same in every run with the same seed (PS3.5 section B.2)."""
        self.counter += 1
        digest = hashlib.sha256(f"{self.target.seed}/{self.case.id}/{self.counter}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def connect(self, source: str | None = None, patience: float | None = None) -> Connection:
        """A new connection."""
        if time.monotonic() > self.until:
            raise Failed(f"not done within {self.case.limit:.0f} s")
        try:
            made = Connection(self.target.address, source, patience or self.target.patience, self.until)
        except OSError as error:
            raise Failed(f"no connection: {error}") from error
        self.open.append(made)
        return made

    def request(self, **changes: object) -> Request:
        """A correct A-ASSOCIATE-RQ, with changes."""
        parts: dict[str, object] = {"called": self.target.called, "calling": self.calling}
        return Request(**(parts | changes))  # type: ignore[arg-type]

    def reply(self, data: bytes, *, finish: bool = False, within: float | None = None) -> Answer:
        """Connects, sends, and returns what comes."""
        connection = self.connect()
        connection.send(data)
        if finish:
            connection.finish_sending()
        answer = connection.answer(within)
        self.saw(answer)
        connection.close()
        return answer

    def saw(self, answer: Answer) -> Answer:
        """Remembers the last answer for the report."""
        self.got = str(answer)
        return answer

    def associate(
        self, contexts: list[bytes] | None = None, *, source: str | None = None, **changes: object
    ) -> Association:
        """An established association; context 1 is verification, 3 storage of CR images."""
        if contexts is None:
            contexts = [context(1), context(3, CR, (EXPLICIT,))]
        max_pdu = changes.pop("our_max_pdu", None)
        connection = self.connect(source)
        if isinstance(max_pdu, int):
            connection.max_pdu = max_pdu
        connection.send(self.request(contexts=contexts, **changes).encode())
        answer = self.saw(connection.answer())
        if answer.kind != "AC" or answer.accepted is None:
            raise Failed(f"no association: {answer}")
        return Association(self, connection, answer.accepted)

    def storing(self, syntax: str = EXPLICIT, sop_class: str = CR, **changes: object) -> Association:
        """An association on which objects of one kind can be stored on context 3."""
        made = self.associate([context(1), context(3, sop_class, (syntax,))], **changes)
        result = made.accepted.result(3)
        if result != 0:
            raise NotApplicable(f"context not accepted (result {result})")
        return made

    def match(self, answer: Answer, expect: Expect | tuple[str, ...]) -> Answer:
        """Fails unless the answer is one of those expected."""
        self.saw(answer)
        patterns = expect.of(self.target.profile) if isinstance(expect, Expect) else expect
        if not any(fnmatch.fnmatchcase(answer.pattern, pattern) for pattern in patterns):
            raise Failed(f"expected {' or '.join(spelled(patterns))}, got {answer}")
        return answer

    def check(self, condition: object, problem: str) -> None:
        """Fails with `problem`."""
        if not condition:
            raise Failed(problem)

    def served_again(self, source: str | None = None) -> None:
        """The same after a burst from this address: until then its own limit may turn it away."""
        deadline = time.monotonic() + self.target.patience
        while True:
            try:
                self.alive(source)
                return
            except Failed:
                if time.monotonic() > deadline:
                    raise

    def alive(self, source: str | None = None) -> float:
        """A new association and a C-ECHO; seconds that they took."""
        started = time.monotonic()
        before = self.got
        try:
            made = self.associate([context(1)], source=source)
            made.usable()
            made.release()
        except Failed as error:
            raise Failed(f"the receiver does not serve others afterwards: {error}") from error
        self.got = before
        return time.monotonic() - started

    def ask(self, what: str) -> list[dict[str, object]]:
        """Rows of Cloister's control socket that this case caused."""
        if self.target.control is None:
            raise NotApplicable("no control socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(self.target.patience)
            asked.connect(str(self.target.control))
            asked.sendall(json.dumps({"list": what}).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                got = asked.recv(1 << 16)
                if not got:
                    break
                line += got
        rows = json.loads(line).get(what, [])
        return [row for row in rows if row.get("calling_ae") == self.calling]

    def close(self) -> None:
        """Closes what is open."""
        for connection in self.open:
            connection.close()


@dataclass
class Association:
    """An established association."""

    t: Try
    connection: Connection
    accepted: Accepted
    message: int = 0

    def next_message(self) -> int:
        """A message id not used yet."""
        self.message += 1
        return self.message

    def send(self, *values: bytes) -> bool:
        """One P-DATA-TF."""
        return self.connection.send(p_data(*values))

    def answer(self, within: float | None = None) -> Answer:
        """The next answer."""
        return self.t.saw(self.connection.answer(within))

    def exchange(self, *values: bytes) -> Answer:
        """One P-DATA-TF and what comes."""
        self.send(*values)
        return self.answer()

    def echo(self, message: int | None = None, number: int = 1) -> Answer:
        """A C-ECHO with its response, checked."""
        message = self.next_message() if message is None else message
        answer = self.exchange(pdv(number, 3, echo_rq(message)))
        return self.checked(answer, 0x8030, message, number, VERIFICATION)

    def usable(self) -> None:
        """Fails unless a C-ECHO succeeds."""
        before = self.t.got
        answer = self.echo()
        if str(answer) != "STATUS 0000":
            raise Failed(f"the association is not usable afterwards: {answer}")
        self.t.got = before

    def checked(
        self,
        answer: Answer,
        field_value: int,
        message: int | None,
        number: int,
        sop_class: str | None = None,
        sop_instance: str | None = None,
    ) -> Answer:
        """A response that is the one to this request."""
        response = answer.response
        if response is None:
            return answer
        self.t.check(response.context == number, f"the response is on context {response.context}, not {number}")
        self.t.check(
            response.number(0x100) == field_value,
            f"command field {response.number(0x100):04X}H, not {field_value:04X}H",
        )
        if message is not None:
            self.t.check(
                response.number(0x120) == message,
                f"message id being responded to is {response.number(0x120)}, not {message}",
            )
        for key, wanted in ((2, sop_class), (0x1000, sop_instance)):
            seen = response.uid(key)
            if wanted is not None and seen is not None:
                self.t.check(seen == wanted.rstrip("\0 "), f"(0000,{key:04X}) is {seen!r}, not {wanted!r}")
        return answer

    def chunk(self) -> int:
        """Bytes of data in a PDV that fits the acceptor's maximum length."""
        limit = self.accepted.max_pdu or 65536
        return max(2, (min(limit, 65536) - 6) & ~1)

    def send_data(self, data: bytes, number: int, chunk: int | None = None) -> bool:
        """A data set in as many P-DATA-TF as it takes."""
        chunk = chunk or self.chunk()
        for at in range(0, max(len(data), 1), chunk):
            part = data[at : at + chunk]
            last = 2 if at + chunk >= len(data) else 0
            if not self.connection.send(p_data(pdv(number, last, part))):
                return False
        return True

    def send_store(self, command: Store, data: bytes, number: int = 3) -> None:
        """A C-STORE request."""
        if self.connection.send(p_data(pdv(number, 3, command.encode()))):
            self.send_data(data, number)

    def store(
        self,
        data: bytes,
        instance: str | bytes | None,
        sop_class: str | bytes | None = CR,
        *,
        number: int = 3,
        **changes: object,
    ) -> Answer:
        """A C-STORE with its response, checked."""
        command = Store(sop_class, instance, **({"message": self.next_message()} | changes))  # type: ignore[arg-type]
        self.send_store(command, data, number)
        answer = self.answer()
        wanted = [value if isinstance(value, str) else None for value in (sop_class, instance)]
        return self.checked(answer, 0x8001, command.message, number, *wanted)

    def store_image(self, syntax: str = EXPLICIT, *changes: dataset.Part, **how: object) -> Answer:
        """Stores a small image with changes."""
        instance = self.t.uid()
        parts = dataset.with_parts(dataset.image(instance, self.t.uid()), *changes)
        return self.store(dataset.encode(parts, syntax), instance, **how)  # type: ignore[arg-type]

    def release(self) -> Answer:
        """An orderly end."""
        self.connection.send(release_rq())
        answer = self.answer()
        if answer.kind != "RELEASE-RP":
            raise Failed(f"A-RELEASE-RQ was answered by {answer}")
        self.connection.close()
        return answer

    def after(self, answer: Answer) -> None:
        """What must hold after any answer: this association, or else a new one, works."""
        if answer.kind == "STATUS":
            self.usable()
            self.release()
        else:
            self.connection.close()
            self.t.alive()


def closed_within(connection: Connection, seconds: float) -> float | None:
    """Seconds until the receiver closed, ignoring what it still says; None if it did not."""
    started = time.monotonic()
    while True:
        left = started + seconds - time.monotonic()
        if left <= 0:
            return None
        try:
            connection._fill(len(connection.buffer) + 1, time.monotonic() + left)
            connection.buffer = b""
        except Gone:
            return time.monotonic() - started
        except Late:
            return None


class Catalogue:
    """Every case, in order of id."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def add(self, case: Case) -> None:
        """One more; ids are unique."""
        if any(known.id == case.id for known in self.cases):
            raise ValueError(f"{case.id} twice")
        self.cases.append(case)

    def case(
        self, number: str, title: str, source: str, sends: str, expects: str, **more: object
    ) -> Callable[[Callable[[Try], None]], Callable[[Try], None]]:
        """Decorates the function that runs a case."""

        def register(run: Callable[[Try], None]) -> Callable[[Try], None]:
            self.add(Case(number, title, source, sends, expects, run, **more))  # type: ignore[arg-type]
            return run

        return register


CATALOGUE = Catalogue()
IMPLICIT_DEFAULT = IMPLICIT


def quiet(action: Callable[[], object]) -> None:
    """Runs something whose failure says nothing about the receiver."""
    with contextlib.suppress(OSError, Gone, Late):
        action()
