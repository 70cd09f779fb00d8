"""Times C-STORE: a stock sender against our receiver and others, side by side in one run.

    python bench/cstore.py --binaries target/release [--rounds 3] [--only cloister --only dcmtk]

The sender is DCMTK's storescu with its defaults. Every measurement starts a fresh receiver in a
temporary folder, sends the same objects over 1 or 4 associations at once, and counts from the first
sender's start to the last one's end. Receivers take turns within a round, so that a machine whose
speed drifts does it to all of them; the table gives medians, and ratios of the medians. The disk's
own time for what a durable receiver has to do is printed beside. The processor's
time of sender and receiver for one object shows how much is not the receiver's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance import receivers

SENDER = "STORESCU"
LIMIT_S = 300


@dataclass(frozen=True)
class Load:
    """What is sent: `count` objects of `rows` x `columns` 16-bit samples."""

    name: str
    sop_class: str
    modality: str
    rows: int
    columns: int
    count: int

    @property
    def megabytes(self) -> float:
        """Of all objects together."""
        return self.count * self.rows * self.columns * 2 / 1e6


LOADS = (
    Load("CT 0.5 MB", CTImageStorage, "CT", 512, 512, 400),
    Load("DX 10 MB", DigitalXRayImageStorageForPresentation, "DX", 2500, 2048, 40),
)
ASSOCIATIONS = (1, 4)


def write(load: Load, folder: Path) -> list[Path]:
    """The objects of a load, as many folders as the largest number of associations."""
    parts = max(ASSOCIATIONS)
    study, series, noise = generate_uid(), generate_uid(), os.urandom(load.rows * load.columns * 2)
    for number in range(load.count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = load.sop_class
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = load.sop_class, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.PatientID, one.PatientName, one.Modality = "BENCH", "Bench^Phantom", load.modality
        one.InstanceNumber, one.BodyPartExamined, one.ViewPosition = number + 1, "CHEST", "PA"
        one.Rows, one.Columns, one.SamplesPerPixel = load.rows, load.columns, 1
        one.PhotometricInterpretation = "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        # Every object has bytes of its own.
        one.PixelData = number.to_bytes(8, "little") + noise[8:]
        target = folder / str(number % parts)
        target.mkdir(parents=True, exist_ok=True)
        one.save_as(target / f"{number:04}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


@dataclass(frozen=True)
class Sent:
    """What one sending cost."""

    #: until every sender had ended
    seconds: float
    #: processor time of all senders, and of the receiver with what it forked and still runs
    sender_s: float
    receiver_s: float
    #: the receiver's largest resident size
    peak_mib: float = 0.0


def cpu_s(pid: int) -> float:
    """Processor time of a process and of its children that have ended and been waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def send(folders: list[Path], associations: int, receiver: receivers.Receiver) -> Sent:
    """Sends everything; each sender over one association."""
    shares = [folders[number::associations] for number in range(associations)]
    command = [
        "storescu",
        "-q",
        "-aet",
        SENDER,
        "-aec",
        receiver.called,
        "+sd",
        "127.0.0.1",
        str(receiver.port),
    ]
    pid = receiver.process.pid if receiver.process else os.getpid()
    before, children_before = cpu_s(pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    senders = [subprocess.Popen([*command, *map(str, share)]) for share in shares]
    codes = [sender.wait(LIMIT_S) for sender in senders]
    seconds = time.monotonic() - started
    if any(codes):
        raise RuntimeError(f"{receiver.name}: storescu ended with {codes}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    sender = after.ru_utime + after.ru_stime - children_before.ru_utime - children_before.ru_stime
    return Sent(seconds, sender, cpu_s(pid) - before, peak_mib(pid))


def peak_mib(pid: int) -> float:
    """The largest resident size that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def disk_ms(folder: Path, times: int = 100) -> tuple[float, float]:
    """Milliseconds, median and 99th percentile, to write 0.5 MB, fsync it, rename it and fsync the
    folder."""
    data, found = os.urandom(500_000), []
    handle = os.open(folder, os.O_RDONLY)
    for number in range(times):
        started = time.monotonic()
        with (folder / "part").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        (folder / "part").rename(folder / f"whole-{number}")
        os.fsync(handle)
        found.append(1000 * (time.monotonic() - started))
    os.close(handle)
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


Row = tuple[str, str, int]


def measure(args: argparse.Namespace, names: list[str], work: Path) -> dict[Row, list[Sent]]:
    """What every receiver, load and number of associations cost, a value a round."""
    found: dict[Row, list[Sent]] = {}
    for load in LOADS:
        folders = write(load, work / load.modality)
        for number in range(args.rounds):
            for associations in ASSOCIATIONS:
                for name in names:
                    receiver = receivers.RECEIVERS[name](args, f"bench{number}")
                    try:
                        receiver.start()
                        sent = send(folders, associations, receiver)
                    finally:
                        receiver.stop()
                        receiver.clean()
                    found.setdefault((name, load.name, associations), []).append(sent)
                    print(f"{load.name} x{associations} {name}: {sent}", file=sys.stderr)
        shutil.rmtree(work / load.modality)
    return found


def counted(port: int, name: str) -> float:
    """A metric of our receiver, all labels together that the text names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for name in (one.name for one in Path("/proc").iterdir() if one.name.isdigit()):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{name}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(name))
    return found


def behind(args: argparse.Namespace, work: Path) -> str:
    """Memory of our receiver while it takes films over four associations and cleans those before."""
    load = Load("DX 10 MB", DigitalXRayImageStorageForPresentation, "DX", 2500, 2048, 8)
    receivers.Cloister.quiet_ms = 200
    receiver = receivers.Cloister(args, "behind")
    try:
        receiver.start()
        pid = receiver.process.pid if receiver.process else 0
        workers: dict[int, float] = {}
        for wave in (1, 2, 3):
            send(write(load, work / f"behind-{wave}"), max(ASSOCIATIONS), receiver)
        deadline = time.monotonic() + LIMIT_S
        cleared = 0.0
        while cleared < 3 * load.count and time.monotonic() < deadline:
            workers |= {child: peak_mib(child) for child in children(pid)}
            cleared = counted(receiver.admin, 'cloister_dicom_step_duration_seconds_count{step="redact"}')
            time.sleep(0.1)
        told = f"{cleared:.0f} of {3 * load.count} films of 10 MB cleaned behind four associations: "
        return (
            told
            + f"receiver {peak_mib(pid):.0f} MiB, its worker {max(workers.values(), default=0):.0f} MiB at most."
        )
    finally:
        receiver.stop()
        receiver.clean()
        receivers.Cloister.quiet_ms = 3_600_000


def table(found: dict[Row, list[Sent]], names: list[str]) -> list[str]:
    """Medians, how many times faster ours is than each, and where the processors' time went."""
    columns = [(load, associations) for load in LOADS for associations in ASSOCIATIONS]
    lines = [
        "| receiver | "
        + " | ".join(f"{load.name}, {associations} assoc. (ours / it)" for load, associations in columns)
        + " | peak RSS MiB |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in names:
        cells = []
        for load, associations in columns:
            rounds = found[name, load.name, associations]
            seconds, sender, receiver = (
                statistics.median(one)
                for one in zip(*((r.seconds, r.sender_s, r.receiver_s) for r in rounds), strict=True)
            )
            ours = found.get(("cloister", load.name, associations))
            ratio = (
                f" ({seconds / statistics.median(one.seconds for one in ours):.2f})"
                if ours and name != "cloister"
                else ""
            )
            cells.append(
                f"{load.count / seconds:.0f} /s, {load.megabytes / seconds:.0f} MB/s{ratio}; "
                f"{1000 * sender / load.count:.1f} + {1000 * receiver / load.count:.1f} ms CPU"
            )
        peak = max(one.peak_mib for (who, _, _), values in found.items() if who == name for one in values)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {peak:.0f} |")
    return lines


def main(argv: list[str]) -> int:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--binaries", type=Path, default=here / "target/release")
    parser.add_argument("--python", type=Path, default=here / ".venv/bin/python", help="with pynetdicom")
    parser.add_argument("--orthanc", type=Path, default=Path("/usr/sbin/Orthanc"))
    parser.add_argument("--dicom-rs", type=Path, default=Path("/usr/local/bin/dicom-storescp"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], choices=sorted(receivers.RECEIVERS))
    args = parser.parse_args(argv)
    args.patience, args.keep = 5.0, False
    if shutil.which("storescu") is None:
        print("SKIPPED C-STORE: storescu (DCMTK) is not installed")
        return 0
    receivers.Cloister.more_callers = (SENDER,)
    names = []
    for name in args.only or receivers.RECEIVERS:
        if receivers.RECEIVERS[name](args, "bench").found():
            names.append(name)
        else:
            print(f"SKIPPED {name}: not installed")
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        (Path(work) / "disk").mkdir()
        median, worst = disk_ms(Path(work) / "disk")
        found = measure(args, names, Path(work))
        memory = behind(args, Path(work)) if "cloister" in names else ""
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; medians of {args.rounds} rounds; in brackets how many times faster ours is; CPU of sender + receiver for one object."
    )
    print(
        f"Disk: 0.5 MB written, fsynced, renamed, folder fsynced in {median:.1f} ms (99th percentile {worst:.1f} ms)."
    )
    print("\n".join(table(found, names)))
    print(memory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
