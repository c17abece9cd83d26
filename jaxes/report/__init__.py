"""What a sweep says: `ranking` with confidence intervals, and `plots`."""
