"""What bent response curves, few states and cycle noise cost on digits, image by image."""
