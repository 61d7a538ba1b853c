"""The studies: a folder each, or one file where it is short; `experiments.lab.study` finds them."""
