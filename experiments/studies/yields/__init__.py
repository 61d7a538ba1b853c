"""The share of chips that meet a specification."""
