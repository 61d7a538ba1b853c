"""Faults: cells that do not do what they are told (`devices.part.Faults`); one file each.

To add one, copy `stuck`, pass `devices.testing.check`, and give it one line in
`devices/__init__.py` and a place in the table of `docs/devices.md`.
"""
