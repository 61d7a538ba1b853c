"""Current–voltage curves of a cell under read voltage (`devices.part.IV`); one file each.

To add one, copy `sinh`, pass `devices.testing.check`, and give it one line in `devices/__init__.py`
and a place in the table of `docs/devices.md`. Curves of one technology are in `devices.technology`.
"""
