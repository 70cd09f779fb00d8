"""Trains the report model and writes the bundle that the server loads.

The steps are files, in this order: data -> grammar -> tokenizer -> model -> train -> export ->
parity -> card -> bundle. `cli` calls them.
"""

__version__ = "0.1.0"
