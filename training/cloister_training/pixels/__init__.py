"""Finds text on films: the Python side of `crates/redact`.

The steps are files, in this order: fonts (strokes) -> words -> zones -> backgrounds (devices, filters) ->
synthesis -> presence -> fit_presence -> presence_bundle; evaluate_presence (stored) measures any detector.
`steps` calls them for `cloister-train presence`.
"""
