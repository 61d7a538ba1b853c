"""Read noises: what a read sees beside the conductance (`devices.part.Read`); one file each.

To add one, copy `gaussian` (white) or subclass `FlickerNoise` of `state` (1/f), pass
`devices.testing.check`, and give it one line in `devices/__init__.py` and a place in the table of
`docs/devices.md`. Fits to one technology are in `devices.technology`.
"""
