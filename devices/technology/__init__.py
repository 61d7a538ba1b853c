"""Parts of one technology or chip, whatever their kind: what was measured together stays together.

A file holds what shares a source or constants, such as the programming error and the read noise of
one paper. To add one, build on the bases in the rooms of the kinds (`devices.write.state`,
`devices.read.state`, `devices.retention.state`), pass `devices.testing.check`, and give each class
one line in `devices/__init__.py` and a place in the table of `docs/devices.md`.
"""
