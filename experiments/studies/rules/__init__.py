"""Which rule of in-situ learning suits which device."""
