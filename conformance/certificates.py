"""Certificates for the TLS cases, by the `openssl` program: one CA, a server, and clients good and bad."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CONFIG = """\
[ca]
default_ca = us
[us]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_crl_days = 30
default_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = unused
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
authorityKeyIdentifier = keyid:always
[list]
authorityKeyIdentifier = keyid:always
"""
PAST = ("20200101000000Z", "20200201000000Z")


def found() -> bool:
    """Whether certificates can be made."""
    return shutil.which("openssl") is not None


class Maker:
    """Makes files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def openssl(self, *arguments: str) -> None:
        """Runs the program there."""
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)

    def key(self, name: str) -> None:
        """A P-256 key that only its owner reads."""
        self.openssl(
            "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key"
        )
        (self.folder / f"{name}.key").chmod(0o600)

    def authority(self) -> None:
        """ca.crt and ca.key."""
        (self.folder / "openssl.cnf").write_text(CONFIG)
        (self.folder / "index.txt").write_text("")
        for name in ("serial", "crlnumber"):
            (self.folder / name).write_text("1000\n")
        self.key("ca")
        self.openssl(
            "req", "-x509", "-new", "-config", "openssl.cnf", "-extensions", "authority", "-key", "ca.key",
            "-subj", "/CN=conformance", "-days", "30", "-out", "ca.crt",
        )  # fmt: skip

    def leaf(self, name: str, common_name: str, *validity: str) -> None:
        """A certificate for both sides of TLS."""
        self.key(name)
        self.openssl(
            "req",
            "-new",
            "-config",
            "openssl.cnf",
            "-key",
            f"{name}.key",
            "-subj",
            f"/CN={common_name}",
            "-out",
            f"{name}.csr",
        )
        dates = ("-startdate", validity[0], "-enddate", validity[1]) if validity else ()
        self.openssl(
            "ca",
            "-batch",
            "-config",
            "openssl.cnf",
            "-extensions",
            "leaf",
            "-notext",
            *dates,
            "-in",
            f"{name}.csr",
            "-out",
            f"{name}.crt",
        )

    def revoke(self, name: str) -> None:
        """Puts a certificate on ca.crl."""
        self.openssl("ca", "-config", "openssl.cnf", "-revoke", f"{name}.crt")
        self.openssl("ca", "-config", "openssl.cnf", "-crlexts", "list", "-gencrl", "-out", "ca.crl")


def make(folder: Path, title: str) -> None:
    """Everything that the TLS cases ask for; `title` is the AE title that peer.crt names."""
    ours, theirs = Maker(folder), Maker(folder / "foreign-ca")
    ours.authority()
    ours.leaf("server", "localhost")
    ours.leaf("peer", title)
    ours.leaf("other", "CONF_OTHER")
    ours.leaf("expired", title, *PAST)
    ours.leaf("revoked", title)
    ours.revoke("revoked")
    theirs.authority()
    theirs.leaf("foreign", title)
    for end in ("crt", "key"):
        shutil.copy(theirs.folder / f"foreign.{end}", folder / f"foreign.{end}")
