"""Shows that the suite can fail: a receiver that misbehaves in known ways, and what is said of it.

    python conformance/selftest.py
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import unittest
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance import peer
from conformance.cases.phi import canary
from conformance.run import FAIL, PASS, Runner, choose
from conformance.suite import CATALOGUE, GROUPS, Target, calling_title

TITLES = (b"SCP".ljust(16), b"SCU".ljust(16))


def acceptance(contexts: bytes, *, version: int = 1, user: bytes | None = None) -> bytes:
    """An A-ASSOCIATE-AC body."""
    head = struct.pack(">HH", version, 0) + TITLES[0] + TITLES[1] + bytes(32)
    return head + peer.item(0x10, peer.APPLICATION_CONTEXT.encode()) + contexts + (user or peer.user_info())


def result(number: int, value: int, *syntaxes: str) -> bytes:
    """A presentation context result item."""
    return peer.item(0x21, bytes([number, 0, value, 0]) + b"".join(peer.item(0x40, one.encode()) for one in syntaxes))


class StrictReading(unittest.TestCase):
    """Answers that the standard does not allow are found."""

    def broken(self, read: Callable[[bytes], object], data: bytes) -> None:
        """Reading fails."""
        with self.assertRaises(peer.Broken):
            read(data)

    def test_acceptances(self) -> None:
        """A-ASSOCIATE-AC."""
        good = acceptance(result(1, 0, peer.IMPLICIT))
        self.assertEqual(peer.parse_accept(good).syntax(1), peer.IMPLICIT)
        for wrong in (
            good[:60],
            acceptance(result(1, 0, peer.IMPLICIT), version=2),
            acceptance(result(1, 0)),
            acceptance(result(1, 0, peer.IMPLICIT, peer.EXPLICIT)),
            acceptance(result(1, 5, peer.IMPLICIT)),
            acceptance(result(1, 0, peer.IMPLICIT), user=peer.item(0x50, peer.item(0x51, b"\0"))),
            good + b"\0",
            good + peer.item(0x50, b""),
            good.replace(peer.APPLICATION_CONTEXT.encode(), b"1" * len(peer.APPLICATION_CONTEXT)),
        ):
            self.broken(peer.parse_accept, wrong)

    def test_commands(self) -> None:
        """Command sets."""
        good = peer.echo_rq()
        self.assertEqual(peer.parse_command(good)[0x100], b"\x30\0")
        for wrong in (
            good[:-1],
            good[12:],
            peer.command(good[12:], group_length=4),
            peer.command(peer.element(0x110, b"\1\0") + peer.element(0x100, b"\x30\0")),
            peer.command(peer.element(2, b"1.2")),
            peer.command(peer.element(2, b"1.2\0", group=8)),
        ):
            self.broken(peer.parse_command, wrong)

    def test_rejections_and_aborts(self) -> None:
        """A-ASSOCIATE-RJ and A-ABORT."""
        self.assertEqual(str(peer.reject(b"\0\1\1\7")), "RJ 1/1/7")
        self.assertEqual(str(peer.aborted(b"\0\0\2\6")), "ABORT 2/6")
        for wrong in (b"\0\3\1\1", b"\0\1\1\4", b"\0\1\4\1", b"\0\1\3\7"):
            self.broken(peer.reject, wrong)
        for wrong in (b"\0\0\1\0", b"\0\0\2\3", b"\0\0\2\7"):
            self.broken(peer.aborted, wrong)


class Stub:
    """A receiver that answers every connection with the same bytes, then closes or stays silent."""

    def __init__(self, answers: list[bytes], *, close: bool = True) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers, self.close_after, self.held = answers, close, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            for answer in self.answers:
                connection.recv(65536)
                connection.sendall(answer)
            if self.close_after:
                connection.close()
            else:
                self.held.append(connection)

    def verdict(self, case: str) -> tuple[str, str]:
        """What the suite says of it in one case."""
        target = Target("127.0.0.1", self.listener.getsockname()[1], "SCP", patience=0.5, seed="self")
        runner = Runner(target)
        runner.dead = False
        runner._answers = lambda within: True  # type: ignore[method-assign]
        found = runner.run(choose([case], False))[0]
        self.listener.close()
        return found.verdict, found.why


class Verdicts(unittest.TestCase):
    """Wrong receivers fail, and for the reason."""

    def failing(self, stub: Stub, case: str, reason: str) -> None:
        """The case fails, saying `reason`."""
        verdict, why = stub.verdict(case)
        self.assertEqual(verdict, FAIL)
        self.assertIn(reason, why)

    def test_a_silent_receiver_fails(self) -> None:
        """SILENT is no outcome."""
        self.failing(Stub([], close=False), "UL-001", "SILENT")

    def test_an_acceptance_of_anything_fails_where_a_rejection_is_due(self) -> None:
        """Protocol version 0."""
        self.failing(Stub([peer.pdu(2, acceptance(result(1, 0, peer.IMPLICIT)))]), "UL-017", "expected RJ ?/2/2, got AC")

    def test_the_wrong_reason_fails(self) -> None:
        """Rejected, but for another reason."""
        self.failing(Stub([peer.pdu(3, b"\0\1\1\1")]), "UL-017", "got RJ 1/1/1")

    def test_a_response_to_another_message_fails(self) -> None:
        """Message id 9 where 0 was asked."""
        body = peer.element(0x100, peer.u16(0x8030)) + peer.element(0x120, peer.u16(9))
        body += peer.element(0x800, peer.u16(0x101)) + peer.element(0x900, peer.u16(0))
        answers = [peer.pdu(2, acceptance(result(1, 0, peer.IMPLICIT))), peer.p_data(peer.pdv(1, 3, peer.command(body)))]
        self.failing(Stub(answers), "DM-001", "message id being responded to is 9, not 0")

    def test_a_right_answer_passes(self) -> None:
        """Accepted, echoed and released as it should be."""
        body = peer.element(0x100, peer.u16(0x8030)) + peer.element(0x120, peer.u16(1))
        body += peer.element(0x800, peer.u16(0x101)) + peer.element(0x900, peer.u16(0))
        answers = [
            peer.pdu(2, acceptance(result(1, 0, peer.IMPLICIT))),
            peer.p_data(peer.pdv(1, 3, peer.command(body))),
            peer.pdu(6, bytes(4)),
        ]
        self.assertEqual(Stub(answers).verdict("UL-001"), (PASS, ""))

    def test_an_identifier_in_clear_is_found(self) -> None:
        """PH-900 reads what it scans."""
        import tempfile

        from conformance.suite import Case, Failed, Try

        with tempfile.TemporaryDirectory() as folder:
            target = Target("127.0.0.1", 1, "SCP", profile="cloister", scan=(Path(folder),), seed="self")
            case: Case = choose(["PH-900"], False)[0]
            for data in (canary("self", "PH-009").encode(), canary("self", "PH-060").encode("utf-16-le")):
                (Path(folder) / "log").write_bytes(b"before " + data + b" after")
                with self.assertRaises(Failed):
                    case.run(Try(case, target, float("inf")))
            (Path(folder) / "log").write_bytes(b"nothing")
            case.run(Try(case, target, float("inf")))


class TheCatalogue(unittest.TestCase):
    """The published list."""

    def test_it_is_large_and_in_order(self) -> None:
        """At least 300 cases, ids unique, every group known."""
        ids = [case.id for case in CATALOGUE.cases]
        self.assertGreaterEqual(len(ids), 300)
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual({case.group for case in CATALOGUE.cases}, set(GROUPS))

    def test_calling_titles_are_unique_titles(self) -> None:
        """At most 16 characters, one per case."""
        titles = {calling_title(case.id, "seed") for case in CATALOGUE.cases}
        self.assertEqual(len(titles), len(CATALOGUE.cases))
        self.assertTrue(all(len(title) <= 16 for title in titles))

    def test_the_published_list_is_this_one(self) -> None:
        """CASES.md was written by --list."""
        from conformance.run import catalogue

        self.assertEqual((Path(__file__).parent / "CASES.md").read_text(), catalogue())


if __name__ == "__main__":
    unittest.main()
