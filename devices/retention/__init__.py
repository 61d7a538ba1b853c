"""Retentions: what time does to a conductance (`devices.part.Retention`); one file each.

To add one, copy `leak`, or subclass `PowerDrift` of `power_law` or `RedrawnDrift` of `state`, pass
`devices.testing.check`, and give it one line in `devices/__init__.py` and a place in the table of
`docs/devices.md`. Fits to one technology are in `devices.technology`.
"""
