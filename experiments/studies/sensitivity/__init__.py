"""Which parameters of a chip its accuracy depends on, all varied at once."""
