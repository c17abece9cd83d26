"""What a sweep says: `tables` with confidence intervals, and `plots`."""
