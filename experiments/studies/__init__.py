"""The studies, one file each; `experiments.study.studies` finds them here."""
