"""One's own device: fitted to measurements, drawn against them, trained on."""
