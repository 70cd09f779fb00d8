"""Measures a trained model and what the server makes of it.

`figures` the file and the comparison; `films` what the heads say, beside `shortcuts`, under `shifts`
and at the `other_hospital` (tables: `film_tables`); `drafts` what the text says, asked through `desk`
(tables: `draft_tables`); `outcomes` the whole server on real films. `evaluate` calls them.
"""
