"""Every property of device and periphery, varied one at a time."""
