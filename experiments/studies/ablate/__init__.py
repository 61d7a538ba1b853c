"""Any one field of the chip, varied."""
