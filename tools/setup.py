#!/usr/bin/env python3
"""Brings what a fresh machine lacks, pinned and hash-checked: `make setup`.

ONNX Runtime's library and the files of the bundles go to ${XDG_CACHE_HOME:-~/.cache}/cloister/<sha256>,
CMake (only where none is on the PATH; the JPEG-LS codec builds with it) to .tools/. Everything comes
from the Python package index through pip, so a hospital's mirror configured for pip is used as it is.
Needs nothing but Python's standard library and pip. Running it again is quick and changes nothing.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
# The library and CMake are taken from these wheels whatever Python runs here: the bytes are pinned.
TARGET = ["--python-version", "311", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any"]


class SetupError(Exception):
    """Something a person has to act on; the text says what."""


def read_toml(path):
    """Reads a TOML file; Python before 3.11 has no tomllib, our pin files need only this subset."""
    try:
        import tomllib
    except ImportError:
        return read_plain_toml(path.read_text(encoding="utf-8"))
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_plain_toml(text):
    """`key = "value"`, `[table]` and `[[array]]`; other values are kept as text."""
    top = {}
    here = top
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        array = re.fullmatch(r"\[\[([\w.-]+)\]\]", line)
        table = re.fullmatch(r"\[([\w.-]+)\]", line)
        if array:
            here = {}
            top.setdefault(array.group(1), []).append(here)
        elif table:
            here = top.setdefault(table.group(1), {})
        elif "=" in line:
            key, value = (part.strip() for part in line.split("=", 1))
            quoted = re.match(r'"([^"]*)"', value)
            here[key] = quoted.group(1) if quoted else value
    return top


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "cloister"


def pip_command(scratch):
    """pip of this Python, else pip of a throw-away virtual environment."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip"]
    place = scratch / "venv"
    made = subprocess.run([sys.executable, "-m", "venv", str(place)], capture_output=True, text=True)
    if made.returncode != 0:
        raise SetupError("Python has neither pip nor venv: install both (Debian: python3-pip python3-venv)")
    return [str(place / "bin" / "python"), "-m", "pip"]


def download(name, version, file, sha256, scratch):
    """Fetches one wheel and checks its hash. A wheel already fetched in this run is not fetched again."""
    wheel = scratch / file
    if wheel.exists():
        return wheel
    print(f"setup: fetching {name} {version}", flush=True)
    # An old pip speaks only the flags below; `--no-deps` and `:all:` keep it from running any build.
    command = pip_command(scratch) + ["download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch)] + TARGET
    for tag in PLATFORMS:
        command += ["--platform", tag]
    done = subprocess.run(command + [f"{name}=={version}"], capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise SetupError(
            f"pip could not fetch {name}=={version}: {lines[-1] if lines else 'no message'}\n"
            "  Without a network: configure pip for your mirror, or copy the cache folder\n"
            f"  {cache_dir()} from a machine where `make setup` has run."
        )
    if not wheel.exists():
        raise SetupError(f"the package index has another file than the pinned {file}")
    found = sha256_of(wheel)
    if found != sha256:
        raise SetupError(f"{file} has SHA-256 {found}, pinned is {sha256}: not used")
    return wheel


def keep(wheel, member, sha256):
    """Takes one file out of a wheel into the cache: temporary file, hash, rename."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=cache, prefix=".part-")
    try:
        with zipfile.ZipFile(wheel) as archive, os.fdopen(handle, "wb") as out:
            try:
                source = archive.open(member)
            except KeyError:
                raise SetupError(f"{wheel.name} has no {member}") from None
            with source:
                shutil.copyfileobj(source, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        found = sha256_of(part)
        if found != sha256:
            raise SetupError(f"{member} has SHA-256 {found}, pinned is {sha256}: not used")
        os.chmod(part, 0o444)
        os.replace(part, cache / sha256)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def present(sha256):
    path = cache_dir() / sha256
    return path.is_file() and sha256_of(path) == sha256


def wanted():
    """Every cached file: (name, version, wheel file, wheel sha256, member, member sha256)."""
    wheels = {(w["name"], w["version"]): w for w in read_toml(ROOT / "tools" / "wheels.toml")["wheel"]}
    pins = read_toml(ROOT / "models" / "onnxruntime.toml")["library"]
    pin = next(pin for pin in pins if pin["platform"] == "x86_64-linux")
    yield "onnxruntime", pin["version"], pin["wheel"], pin["wheel_sha256"], pin["member"], pin["sha256"]
    for manifest in sorted((ROOT / "models").glob("*/bundle.toml")):
        for entry in read_toml(manifest).get("file", []):
            source = entry.get("source")
            if not source:
                continue
            parts = re.fullmatch(r"pypi:([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)!(.+)", source)
            wheel = wheels.get(parts.groups()[:2]) if parts else None
            if not wheel:
                raise SetupError(f"{manifest.relative_to(ROOT)}: no pinned wheel for {source}")
            yield wheel["name"], wheel["version"], wheel["file"], wheel["sha256"], parts[3], entry["sha256"]


def works(program):
    try:
        return subprocess.run([program, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def bring_cmake(scratch):
    """Unpacks the CMake wheel into .tools/ unless a CMake is on the PATH; the Makefile looks there."""
    own = TOOLS / "bin" / "cmake"
    elsewhere = [p for p in os.environ.get("PATH", "").split(os.pathsep) if Path(p) != own.parent]
    found = shutil.which("cmake", path=os.pathsep.join(elsewhere))
    if (found and works(found)) or works(str(own)):
        return
    wheel = next(w for w in read_toml(ROOT / "tools" / "wheels.toml")["wheel"] if w["name"] == "cmake")
    archive = download(wheel["name"], wheel["version"], wheel["file"], wheel["sha256"], scratch)
    place = TOOLS / f"cmake-{wheel['version']}"
    TOOLS.mkdir(exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=TOOLS, prefix=".part-"))
    try:
        with zipfile.ZipFile(archive) as files:
            files.extractall(part)
        for program in (part / "cmake" / "data" / "bin").iterdir():
            program.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        part.chmod(0o755)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    own.parent.mkdir(exist_ok=True)
    own.unlink(missing_ok=True)
    own.symlink_to(Path("..") / place.name / "cmake" / "data" / "bin" / "cmake")
    if not works(str(own)):
        raise SetupError("the fetched CMake does not run here: install cmake from your distribution")


def main():
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"only Linux on x86_64 is pinned, this is {platform.system()} on {platform.machine()}: "
            "add the wheel of your platform to models/onnxruntime.toml and tools/wheels.toml"
        )
    with tempfile.TemporaryDirectory(prefix="cloister-setup-") as folder:
        scratch = Path(folder)
        for name, version, file, wheel_sha256, member, sha256 in wanted():
            if not present(sha256):
                keep(download(name, version, file, wheel_sha256, scratch), member, sha256)
        bring_cmake(scratch)
    print("setup: complete", flush=True)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except OSError as error:
        sys.exit(f"setup: {error}")
