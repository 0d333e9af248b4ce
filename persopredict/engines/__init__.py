"""Engines compute; nothing else in the library touches one.

`expressions` builds SQL, `base` is the contract, `duckdb` the embedded engine, `files` and
`frames` are what it reads.
"""
