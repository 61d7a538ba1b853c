"""What training and inference cost, beside what they reach."""
