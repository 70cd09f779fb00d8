"""The cases, one module per group. Importing them fills the catalogue."""

from . import association, dimse, encoding, hostile, phi, storage, tls

__all__ = ["association", "dimse", "encoding", "hostile", "phi", "storage", "tls"]
