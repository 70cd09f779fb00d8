"""Starts receivers on this machine, runs the suite against each, and writes the scoreboard.

    python conformance/receivers.py run cloister --binaries target/debug
    python conformance/receivers.py score --binaries target/debug
    python conformance/receivers.py board

`run` runs one receiver with the narrowest profile it has; `score` runs every one that is found with
the generic profile; `board` writes SCOREBOARD.md from the results that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance import certificates
from conformance.run import FAIL, NOT_APPLICABLE, PASS, PROBE, SKIPPED, Runner, choose, report, table
from conformance.suite import CATALOGUE, GROUPS, Target, calling_title

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
START_S = 60.0
STOP_S = 15.0
DENIED = "CONF_DENIED"
TLS_TITLE = "CONF_TLS"
MAX_OBJECT = 300 << 20
QUOTA_MIB = 96


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def output_of(*command: str) -> str:
    """Standard output of a program, for its version."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


class Receiver:
    """A receiver in a temporary folder."""

    name = ""
    called = "RECEIVER"
    #: how it is configured, for the scoreboard
    options = ""

    def __init__(self, args: argparse.Namespace, seed: str) -> None:
        self.args = args
        self.seed = seed
        self.dir = Path(tempfile.mkdtemp(prefix=f"conf-{self.name}-"))
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def found(self) -> bool:
        """Whether it is installed."""
        raise NotImplementedError

    def version(self) -> str:
        """Its version."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """How it is started; writes what it needs into `self.dir`."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it and waits until its port accepts."""
        self.port = free_port()
        with (self.dir / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {(self.dir / 'log').read_text(errors='replace')[-500:]}")
            if self.ready():
                return
            threading.Event().wait(0.05)
        raise RuntimeError(f"{self.name} was not ready within {START_S:.0f} s")

    def ready(self) -> bool:
        """Whether its port accepts."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Ends it and what it forked."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # Its own session: forked children that are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None

    def target(self, profile: str) -> Target:
        """For the runner."""
        return Target(
            host="127.0.0.1",
            port=self.port,
            called=self.called,
            profile=profile,
            pid=self.process.pid if self.process else None,
            seed=self.seed,
            patience=self.args.patience,
            names=self.name,
        )

    def clean(self) -> None:
        """Removes its folder."""
        shutil.rmtree(self.dir, ignore_errors=True)


class Cloister(Receiver):
    """Our own dicom-scp, alone: no sidecar listens, and no study becomes quiet."""

    name = "cloister"
    called = "CLOISTER"
    admin = 0
    tls_port: int | None = None
    #: when a study counts as complete: never, so that nothing is cleaned while a case runs
    quiet_ms = 3_600_000
    #: calling AE titles beside those of the cases
    more_callers: tuple[str, ...] = ()
    options = "cloister-dicom-scp, debug build, defaults, calling AE titles on a list, max_object_bytes 300 MiB"

    def found(self) -> bool:
        return (self.args.binaries / "cloister-dicom-scp").is_file()

    def version(self) -> str:
        return output_of(str(self.args.binaries / "cloister-dicom-scp"), "--version").split()[-1]

    def command(self) -> list[str]:
        state = self.dir / "s"
        if not state.is_dir():
            self._install(state)
        (state / "dicom-scp" / "ready.json").unlink(missing_ok=True)
        callers = [calling_title(case.id, self.seed) for case in [*CATALOGUE.cases, PROBE]] + [TLS_TITLE, *self.more_callers]
        (state / "dicom-scp.toml").write_text(CONFIG.format(callers=json.dumps(callers), tls=TLS_LISTEN if certificates.found() else "", models=HERE.parent / "models", max_object=MAX_OBJECT, quiet_ms=self.quiet_ms) + (TLS_CONFIG if certificates.found() else ""))
        return [str(self.args.binaries / "cloister-dicom-scp"), "--config", str(state / "dicom-scp.toml")]

    def _install(self, state: Path) -> None:
        cloister = str(self.args.binaries / "cloister")
        (state / "dicom-scp").mkdir(parents=True, mode=0o700)
        state.chmod(0o700)
        pki = state / "pki"
        key = pki / "clinician.recipient"
        if certificates.found():
            certificates.make(state / "tls", TLS_TITLE)
        for command in (
            ["pki", "init", "--out", str(pki), "--trust-domain", "conf.test"],
            ["keys", "generate", "--out", str(key)],
            ["keys", "enrol", "--public", f"{key}.pub", "--identity", "spiffe://conf.test/clinician/clinician", "--group", "radiology", "--enrolment-key", str(pki / "enrolment.key"), "--directory", str(state / "directory.jsonl")],
        ):
            subprocess.run([cloister, *command], check=True, stdout=subprocess.DEVNULL, timeout=60)

    def ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            ports = json.loads((self.dir / "s/dicom-scp/ready.json").read_text())["ports"]
            self.port = int(ports["dimse"].rpartition(":")[2])
            self.admin = int(ports["admin"].rpartition(":")[2])
            self.tls_port = int(ports["dimse_tls"].rpartition(":")[2]) if "dimse_tls" in ports else None
            return super().ready()
        return False

    def target(self, profile: str) -> Target:
        made = dataclasses.replace(
            super().target(profile), tls_port=self.tls_port, tls_files=self.dir / "s" / "tls", tls_ae=TLS_TITLE
        )
        if profile != "cloister":
            return made
        state = self.dir / "s" / "dicom-scp"
        return dataclasses.replace(
            made,
            control=state / "control.sock",
            scan=(state, self.dir / "log"),
            metrics=("127.0.0.1", self.admin),
            denied_calling=DENIED,
            max_object=MAX_OBJECT,
        )


CONFIG = """\
state_dir = "dicom-scp"
site = "conf.test"
[listen]
dimse = "127.0.0.1:0"
{tls}admin = "127.0.0.1:0"
[receive]
ae_titles = ["CLOISTER"]
calling_ae_titles = {callers}
max_object_bytes = {max_object}
[keys]
wrapping = "pki/wrapping.key"
pseudonym = "pki/pseudonym.key"
manifest_signing = "pki/manifest-signing.key"
audit_signing = "pki/audit-dicom-scp.key"
[directory]
file = "directory.jsonl"
enrolment_key = "pki/enrolment.pub"
[route]
default_recipient = "group:radiology"
[spool]
min_free_bytes = 8388608
[study]
quiet_ms = {quiet_ms}
query = "Findings and impression"
[redact]
detector_bundle = "{models}/text-ppocr"
workers = 1
[sidecar]
endpoint = "https://127.0.0.1:1"
identity = "spiffe://conf.test/sidecar/sidecar"
certificate = "pki/gateway.crt"
key = "pki/gateway.key"
peer_ca = "pki/ca.crt"
"""


TLS_LISTEN = 'dimse_tls = "127.0.0.1:0"\n'
TLS_CONFIG = f"""\
[dimse_tls]
certificate = "tls/server.crt"
key = "tls/server.key"
peer_ca = "tls/ca.crt"
crl = "tls/ca.crl"
[[modality]]
calling_ae = "{TLS_TITLE}"
identity = "cn:{TLS_TITLE}"
"""


class Dcmtk(Receiver):
    """DCMTK's storescp."""

    name = "dcmtk"
    options = "storescp --fork +B +xa"

    def found(self) -> bool:
        return shutil.which("storescp") is not None

    def version(self) -> str:
        return output_of("storescp", "--version").split("storescp v", 1)[-1].split()[0]

    def command(self) -> list[str]:
        out = self.dir / "out"
        out.mkdir(exist_ok=True)
        return ["storescp", "--fork", "+B", "+xa", "-aet", self.called, "-od", str(out), str(self.port)]


class Pynetdicom(Receiver):
    """pynetdicom's storescp application."""

    name = "pynetdicom"
    options = "python -m pynetdicom storescp"

    def found(self) -> bool:
        return self.args.python.is_file() and "pynetdicom" in self.version_line()

    def version_line(self) -> str:
        return output_of(str(self.args.python), "-c", "import pynetdicom; print('pynetdicom', pynetdicom.__version__)")

    def version(self) -> str:
        return self.version_line().split()[-1]

    def command(self) -> list[str]:
        out = self.dir / "out"
        out.mkdir(exist_ok=True)
        program = [str(self.args.python), "-m", "pynetdicom", "storescp", str(self.port)]
        return [*program, "-ba", "127.0.0.1", "-aet", self.called, "-od", str(out), "-q"]


class Orthanc(Receiver):
    """Orthanc with its SQLite index."""

    name = "orthanc"
    options = "defaults: SQLite index, SyncStorageArea, AlwaysAllowStore"

    def found(self) -> bool:
        return self.program() is not None

    def program(self) -> str | None:
        return str(self.args.orthanc) if self.args.orthanc.is_file() else shutil.which("Orthanc")

    def version(self) -> str:
        return output_of(self.program() or "", "--version").splitlines()[0].split()[-1]

    def command(self) -> list[str]:
        settings = {
            "Name": "conformance",
            "StorageDirectory": str(self.dir / "out"),
            "IndexDirectory": str(self.dir / "out"),
            "DicomAet": self.called,
            "DicomPort": self.port,
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
        }
        (self.dir / "orthanc.json").write_text(json.dumps(settings))
        return [self.program() or "", str(self.dir / "orthanc.json")]


class DicomRs(Receiver):
    """dicom-rs' storescp."""

    name = "dicom-rs"
    called = "STORE-SCP"
    options = "dicom-storescp --promiscuous --non-blocking"

    def found(self) -> bool:
        return self.program() is not None

    def program(self) -> str | None:
        return str(self.args.dicom_rs) if self.args.dicom_rs.is_file() else shutil.which("dicom-storescp")

    def version(self) -> str:
        return output_of(self.program() or "", "--version").split()[-1]

    def command(self) -> list[str]:
        out = self.dir / "out"
        out.mkdir(exist_ok=True)
        return [self.program() or "", "--promiscuous", "--non-blocking", "-p", str(self.port), "-o", str(out)]


MEASURED_APART = (
    "- The times above are not side by side: those of the others were taken while the machine was busy, ours when it was not.",
    "- Orthanc 1.10.1, a C-STORE whose data set ends inside a value (ST-038): ABORT after 30.0 s.",
    "- DCMTK 3.6.7, a request whose called AE title is 16 spaces (UL-033): nothing within 90 s.",
    "- dicom-storescp 0.10.1 answers with Message ID Being Responded To 1 whatever the request's is; 250 of its failed must-cases say so.",
    "- pynetdicom 3.0.4, 10,000 connections opened and closed (HP-068): stopped after five minutes, not counted.",
)

RECEIVERS: dict[str, type[Receiver]] = {one.name: one for one in (Cloister, Dcmtk, Pynetdicom, Orthanc, DicomRs)}


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A tmpfs of a few megabytes at `path`, where this user may mount one."""
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={QUOTA_MIB}m,mode=0700", "conformance", str(path)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)


def run_one(args: argparse.Namespace, name: str, profile: str) -> int:
    """One receiver through the suite; its results in results/."""
    seed = args.seed or os.urandom(8).hex()
    receiver = RECEIVERS[name](args, seed)
    if not receiver.found():
        print(f"SKIPPED {name}: not installed")
        return 0

    def again() -> Target:
        receiver.stop()
        receiver.start()
        return receiver.target(profile)

    started = time.monotonic()
    try:
        receiver.start()
        runner = Runner(receiver.target(profile), args.jobs, again, lambda line: print(line, flush=True))
        results = runner.run(choose(args.only, args.fast))
    finally:
        receiver.stop()
        if not args.keep:
            receiver.clean()
    if not args.fast and not args.only:
        results = [result for result in results if result.case.id != "ST-075"] + full_disk(args, name, profile, seed)
    seconds = time.monotonic() - started
    print(table(results))
    for result in results:
        if result.notes:
            print(f"{result.case.id}: {json.dumps(result.notes)}")
    print(f"{name} {receiver.version()}: {len(results)} cases in {seconds:.0f} s, {runner.restarts} restarts")
    document = report(results, receiver.target(profile), receiver.version(), seconds, runner.restarts)
    document["options"] = receiver.options
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{profile}.json").write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(r.verdict == FAIL and r.severity == "must" for r in results) else 0


def full_disk(args: argparse.Namespace, name: str, profile: str, seed: str) -> list:
    """The case that needs a disk of its own."""
    receiver = RECEIVERS[name](args, seed)
    try:
        with small_disk(receiver.dir) as mounted:
            target = None
            if mounted:
                receiver.start()
                target = dataclasses.replace(receiver.target(profile), quota=True)
            runner = Runner(target or receiver.target(profile), 1, None, lambda line: print(line, flush=True))
            try:
                return runner.run(choose(["ST-075"], False))
            finally:
                receiver.stop()
    finally:
        receiver.clean()


def board() -> str:
    """SCOREBOARD.md."""
    found = [RESULTS / f"{name}-generic.json" for name in RECEIVERS]
    documents = [json.loads(path.read_text()) for path in found if path.is_file()]
    severities = {case.id: case.severity_for("generic") for case in CATALOGUE.cases}
    for document in documents:
        # What a failure weighs is the catalogue's to say, not that of an older run.
        document["cases"] = [case | {"severity": severities[case["id"]]} for case in document["cases"] if case["id"] in severities]
    lines = [
        "# Scoreboard",
        "",
        f"Written by `python conformance/receivers.py board` on {datetime.datetime.now(datetime.UTC).date().isoformat()}; do not edit.",
        "",
        "The generic profile: every outcome that the standard allows passes. Each receiver ran on loopback, in a",
        "temporary folder, with the options named. An answer counts when it comes within 5 s; later is SILENT (the",
        "standard has no figure for that; a receiver may answer or close after a time-out of its own). A receiver",
        "that no longer served was started again and the case repeated on the fresh one (restarts). The figures are",
        "those of these versions. `passed/applicable`: cases about what a receiver does not offer (n/a) and cases",
        "that could not run (skipped) are not counted. What each case is about is in [CASES.md](CASES.md); ST-075 fills",
        f"a disk of {QUOTA_MIB} MiB.",
        "",
        "| receiver | version | options | date | " + " | ".join(GROUPS) + " | all | must failed | of these SILENT | should failed | restarts |",
        "|---" * (len(GROUPS) + 9) + "|",
    ]
    for document in documents:
        cells = [document["receiver"], document["version"], document["options"], document["date"]]
        for group in [*GROUPS, ""]:
            mine = [case for case in document["cases"] if case["id"].startswith(group)]
            count = Counter(case["verdict"] for case in mine)
            counted = len(mine) - count[NOT_APPLICABLE] - count[SKIPPED]
            cells.append(f"{count[PASS]}/{counted}" if counted else "not run")
        failed = Counter(case["severity"] for case in document["cases"] if case["verdict"] == FAIL)
        silent = sum(
            case["verdict"] == FAIL and case["severity"] == "must" and bool(re.search("(got|:) SILENT", case["why"]))
            for case in document["cases"]
        )
        cells += [str(failed["must"]), str(silent), str(failed["should"]), str(document["restarts"])]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Measured", "", "C-ECHO (associate, echo, release) while 1,000 hostile connections are held; milliseconds at the 99th percentile of 200, or how many failed (given up after more than ten). Other jobs ran on the machine.", ""]
    measured = {"HP-059": "silent, eight addresses", "HP-060": "1 byte/s, eight addresses", "HP-061": "silent, one address", "HP-062": "1 byte/s, one address"}
    lines += ["| receiver | " + " | ".join(measured.values()) + " |", "|---" * (len(measured) + 1) + "|"]
    for document in documents:
        by_id = {case["id"]: case for case in document["cases"]}
        cells = [document["receiver"]]
        for number in measured:
            notes = by_id.get(number, {}).get("notes", {})
            failed = notes.get("failed", 0)
            cells.append("not run" if "p99_ms" not in notes else f"{failed} failed" if failed else f"{notes['p99_ms']:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Waited for longer, on 2026-11-21:", "", *MEASURED_APART]
    for document in documents:
        failed = [case for case in document["cases"] if case["verdict"] == FAIL and case["severity"] == "must"]
        lines += ["", f"## {document['receiver']} {document['version']}: must-cases that failed", ""]
        if not failed:
            lines.append("None.")
        for case in failed:
            why = case["why"].replace("\n", " ").replace("|", "\\|")
            lines.append(f"- {case['id']} {case['title']}: {''.join(c if c.isprintable() else '?' for c in why)[:300]}")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "score", "board"))
    parser.add_argument("receiver", nargs="?", choices=sorted(RECEIVERS))
    parser.add_argument("--profile", choices=("cloister", "generic"))
    parser.add_argument("--binaries", type=Path, default=HERE.parent / "target/debug")
    parser.add_argument("--python", type=Path, default=HERE.parent / ".venv/bin/python", help="with pynetdicom")
    parser.add_argument("--orthanc", type=Path, default=Path("/usr/sbin/Orthanc"))
    parser.add_argument("--dicom-rs", type=Path, default=Path("/usr/local/bin/dicom-storescp"))
    parser.add_argument("--only", action="append", default=[], metavar="ID")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--patience", type=float, default=5.0, metavar="S")
    parser.add_argument("--seed")
    parser.add_argument("--keep", action="store_true", help="keep the receiver's folder")
    args = parser.parse_args(argv)
    if args.action == "board":
        (HERE / "SCOREBOARD.md").write_text(board())
        return 0
    if args.action == "run":
        if args.receiver is None:
            parser.error("which receiver?")
        profile = args.profile or ("cloister" if args.receiver == "cloister" else "generic")
        return run_one(args, args.receiver, profile)
    for name in RECEIVERS:
        run_one(args, name, "generic")
    (HERE / "SCOREBOARD.md").write_text(board())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
