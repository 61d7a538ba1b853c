"""Every preset of the library, drawn."""
