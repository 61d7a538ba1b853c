"""Update laws: what pulses do to a cell (`devices.part.Update`); one file each.

To add one, copy the law most like yours (`pow_step`, if one pulse is all you know), name its source
in the docstring, pass `devices.testing.check`, and give it one line in `devices/__init__.py` and a
place in the table of `docs/devices.md`.

What only laws share is here too. Bases: `nominal` (step and spreads), `curved` (one pulse is
enough), `driven` (motion under a voltage), `around` (around another law). Many pulses at once:
`affine`, `flow`, `kernel`, `rounds`. Mathematics: `moments`, `integrate`, `clip`.
"""
