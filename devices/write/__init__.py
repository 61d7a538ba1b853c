"""Write models: the error of a programmed conductance (`devices.part.Write`); one file each.

To add one, give `NormalWrite` of `state` its standard deviation, pass `devices.testing.check`, and
give it one line in `devices/__init__.py` and a place in the table of `docs/devices.md`. Fits to one
technology are in `devices.technology`.
"""
