"""Runs the conformance suite against one receiver.

    python conformance/run.py --port 11112 --called-ae CLOISTER --profile cloister --fast
    python conformance/run.py --list > conformance/CASES.md

Exit status: 0 when no must-case failed, 1 when one did, 64 for bad usage.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import platform
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance import cases  # noqa: F401  fills the catalogue
from conformance.suite import CATALOGUE, GROUPS, Case, Failed, NotApplicable, Target, Try

PASS, FAIL, NOT_APPLICABLE, SKIPPED = "pass", "FAIL", "n/a", "skipped"
# How long a receiver may take to serve again after a case, before it counts as dead.
RECOVERY_S = 20.0


@dataclass
class Result:
    """How one case went."""

    case: Case
    verdict: str
    severity: str
    seconds: float = 0.0
    got: str = ""
    why: str = ""
    notes: dict[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """For the results file."""
        return {
            "id": self.case.id,
            "title": self.case.title,
            "severity": self.severity,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "got": self.got,
            "why": self.why,
            "notes": self.notes,
        }


def missing_need(case: Case, target: Target) -> str | None:
    """What the case needs and the target lacks."""
    has = {
        "control": target.control is not None,
        "scan": bool(target.scan),
        "pid": target.pid is not None,
        "denied-calling": target.denied_calling is not None,
        "max-object": target.max_object is not None,
        "quota": target.quota,
        "metrics": target.metrics is not None,
        "tls-port": target.tls_port is not None,
    }
    return next((need for need in case.needs if not has[need]), None)


class Runner:
    """Runs cases and keeps the receiver's health in view."""

    def __init__(
        self,
        target: Target,
        jobs: int = 4,
        on_dead: Callable[[], Target | None] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.target = target
        self.jobs = jobs
        self.on_dead = on_dead
        self.say = say
        self.restarts = 0
        self.dead = False
        self.lock = threading.Lock()

    def run(self, chosen: list[Case]) -> list[Result]:
        """Every case once; results in order of id."""
        phases = [[case for case in chosen if case.when == when] for when in ("", "alone", "last")]
        results = self._together(phases[0])
        for case in phases[1] + phases[2]:
            results += self._together([case])
        order = {case.id: at for at, case in enumerate(CATALOGUE.cases)}
        return sorted(results, key=lambda result: order[result.case.id])

    def _together(self, chosen: list[Case]) -> list[Result]:
        jobs = min(self.jobs, len(chosen))
        if jobs <= 1:
            return [self.one(case) for case in chosen]
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(self.one, chosen))

    def one(self, case: Case, again: bool = False) -> Result:
        """One case, within its limit; `again` on a receiver that was just started."""
        severity = case.severity_for(self.target.profile)
        if self.dead:
            return Result(case, FAIL, severity, why="not run: the receiver no longer answers")
        if need := missing_need(case, self.target):
            return Result(case, SKIPPED, severity, why=f"needs --{need}")
        t = Try(case, self.target, time.monotonic() + case.limit)
        started = time.monotonic()
        # A case that hangs in spite of its bounded waits ends when its sockets do.
        watchdog = threading.Timer(case.limit + 5, t.close)
        watchdog.daemon = True
        watchdog.start()
        verdict, why = PASS, ""
        try:
            case.run(t)
        except NotApplicable as reason:
            verdict, why = NOT_APPLICABLE, str(reason)
        except Failed as problem:
            verdict, why = FAIL, str(problem)
        except Exception as error:  # the case itself is wrong: loud, and a failure
            verdict, why = FAIL, f"case error: {type(error).__name__}: {error}"
        finally:
            watchdog.cancel()
            t.close()
        result = Result(case, verdict, severity, time.monotonic() - started, t.got, why, t.notes)
        if verdict != FAIL:
            return result
        if self._recover(result) and not again:
            # The fault may be an earlier case's: judged on a receiver that is fresh.
            second = self.one(case, again=True)
            second.notes["fresh"] = True
            return second
        self.say(f"{case.id} {severity} FAIL  {case.title}: {result.why}")
        return result

    def _recover(self, result: Result) -> bool:
        """After a failure: the receiver must answer again, or is started again (then true)."""
        with self.lock:
            if self.dead or self._answers(RECOVERY_S if self.on_dead is None else 5.0):
                return False
            result.why += "; the receiver did not serve any more"
            fresh = self.on_dead() if self.on_dead else None
            if fresh is None:
                self.dead = True
                return False
            self.target = fresh
            self.restarts += 1
            return True

    def _answers(self, within: float) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            probe = Try(PROBE, self.target, deadline)
            try:
                probe.alive()
                return True
            except Failed:
                # Not a wait for time to pass: a refused connection comes back at once.
                threading.Event().wait(0.05)
            finally:
                probe.close()
        return False


PROBE = Case("XX-PROBE", "probe", "", "", "", lambda t: None)


def choose(only: list[str], fast: bool) -> list[Case]:
    """The cases asked for."""
    chosen = CATALOGUE.cases
    if only:
        chosen = [case for case in chosen if any(fnmatch.fnmatch(case.id, one) for one in only)]
    return [case for case in chosen if not (fast and case.slow)]


def table(results: list[Result]) -> str:
    """Verdicts per group."""
    lines = [f"{'group':<10}{'cases':>7}{'pass':>7}{'must FAIL':>11}{'should FAIL':>13}{'n/a':>6}{'skipped':>9}"]
    groups = [*GROUPS, "all"]
    for group in groups:
        mine = [result for result in results if group in ("all", result.case.group)]
        if not mine:
            continue
        count = Counter((r.verdict, r.severity) if r.verdict == FAIL else (r.verdict, "") for r in mine)
        lines.append(
            f"{group:<10}{len(mine):>7}{count[PASS, '']:>7}{count[FAIL, 'must']:>11}{count[FAIL, 'should']:>13}"
            f"{count[NOT_APPLICABLE, '']:>6}{count[SKIPPED, '']:>9}"
        )
    return "\n".join(lines)


def report(results: list[Result], target: Target, version: str, seconds: float, restarts: int) -> dict[str, object]:
    """The results file."""
    return {
        "receiver": target.names,
        "version": version,
        "profile": target.profile,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "seconds": round(seconds, 1),
        "restarts": restarts,
        "cases": [result.as_json() for result in results],
    }


def catalogue() -> str:
    """CASES.md."""
    cell = lambda value: value.replace("|", "\\|").replace("\n", " ")  # noqa: E731
    lines = [
        "# The cases",
        "",
        "Written by `python conformance/run.py --list`; do not edit.",
        "",
        f"{len(CATALOGUE.cases)} cases, {sum(not case.slow for case in CATALOGUE.cases)} of them in the fast part. "
        "An expectation lists every allowed outcome: `AC`, `RJ result/source/reason`, `ABORT source/reason`, "
        "`RELEASE-RP`, `STATUS` of a DIMSE response, `CLOSED` (the transport connection ended); `?` is any digit, "
        "`*` anything; `REFUSED`: the TLS handshake, or closed after it. Where the standard leaves a choice all of it is allowed, and the cloister profile narrows it. "
        "After each case the same or a new association must work.",
    ]
    for group, name in GROUPS.items():
        lines += ["", f"## {group}: {name}", "", "| id | case | source | sent | expected | severity |", "|---|---|---|---|---|---|"]
        for case in CATALOGUE.cases:
            if case.group != group:
                continue
            severity = case.severity
            if case.generic_severity:
                severity += f" (generic: {case.generic_severity})"
            marks = ", slow" if case.slow else ""
            marks += f", needs {', '.join('--' + need for need in case.needs)}" if case.needs else ""
            cells = (case.id, case.title, case.source, case.sends, case.expects, severity + marks)
            lines.append("| " + " | ".join(cell(value) for value in cells) + " |")
    return "\n".join(lines) + "\n"


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--called-ae", default="CLOISTER")
    parser.add_argument("--calling-ae", help="always this calling AE title instead of one per case")
    parser.add_argument("--denied-calling", metavar="AE", help="a calling AE title that the receiver refuses")
    parser.add_argument("--profile", choices=("cloister", "generic"), default="generic")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="Cloister's control socket")
    parser.add_argument("--scan", type=Path, action="append", default=[], metavar="DIR", help="looked through for identifiers in clear; may be repeated")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="Cloister's admin port")
    parser.add_argument("--pid", type=int, help="the receiver's process, for memory and file descriptors")
    parser.add_argument("--max-object", type=int, metavar="BYTES", help="longest object that the receiver takes")
    parser.add_argument("--quota", action="store_true", help="the receiver's storage is small enough to be filled")
    parser.add_argument("--tls-port", type=int, help="the receiver's port with TLS")
    parser.add_argument("--tls-files", type=Path, metavar="DIR", help="ca.crt; peer, other, foreign, expired, revoked .crt and .key, as far as there are")
    parser.add_argument("--tls-ae", metavar="AE", help="the AE title that peer.crt is for")
    parser.add_argument("--fast", action="store_true", help="the part that make test runs")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="cases by id or pattern")
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time")
    parser.add_argument("--patience", type=float, default=10.0, metavar="S", help="longest wait for one answer")
    parser.add_argument("--seed", default=None, help="UIDs and mutations depend on it; random by default")
    parser.add_argument("--name", default="receiver")
    parser.add_argument("--version-of", default="", metavar="TEXT", help="the receiver's version, for the results")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--list", action="store_true", help="print the catalogue as Markdown")
    parsed = parser.parse_args(argv)
    if not parsed.list and parsed.port is None:
        parser.error("--port is missing")
    return parsed


def target_of(parsed: argparse.Namespace) -> Target:
    """The receiver of the command line."""
    metrics = None
    if parsed.metrics:
        host, _, port = parsed.metrics.rpartition(":")
        metrics = (host, int(port))
    return Target(
        host=parsed.host,
        port=parsed.port,
        called=parsed.called_ae,
        profile=parsed.profile,
        calling=parsed.calling_ae,
        denied_calling=parsed.denied_calling,
        control=parsed.control,
        scan=tuple(parsed.scan),
        metrics=metrics,
        pid=parsed.pid,
        seed=parsed.seed if parsed.seed is not None else os.urandom(8).hex(),
        patience=parsed.patience,
        max_object=parsed.max_object,
        quota=parsed.quota,
        tls_port=parsed.tls_port,
        tls_files=parsed.tls_files,
        tls_ae=parsed.tls_ae,
        names=parsed.name,
    )


def main(argv: list[str]) -> int:
    """Runs what the command line says."""
    try:
        parsed = arguments(argv)
    except SystemExit as end:
        return 64 if end.code else 0
    if parsed.list:
        sys.stdout.write(catalogue())
        return 0
    target = target_of(parsed)
    chosen = choose(parsed.only, parsed.fast)
    if not chosen:
        print("no such case", file=sys.stderr)
        return 64
    started = time.monotonic()
    runner = Runner(target, parsed.jobs, say=lambda line: print(line, flush=True))
    results = runner.run(chosen)
    seconds = time.monotonic() - started
    print(table(results))
    for result in results:
        if result.notes:
            print(f"{result.case.id}: {json.dumps(result.notes)}")
    print(f"{len(results)} cases in {seconds:.1f} s, seed {target.seed}")
    out = parsed.out or Path(__file__).resolve().parent / "results" / (re.sub(r"\W+", "-", parsed.name) + ".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    document = report(results, target, parsed.version_of, seconds, runner.restarts)
    out.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(r.verdict == FAIL and r.severity == "must" for r in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
