"""Trains the report model and writes the bundle that the server loads.

The steps are files, in this order: data -> grammar -> tokenizer -> model -> train -> export ->
parity -> card -> bundle. `cli` calls them.
"""

__version__ = "0.2.0"

import os as _os

# Before anything imports onnxruntime: the library reports to its maker unless told not to.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
