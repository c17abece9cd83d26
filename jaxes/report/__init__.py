"""What runs and sweeps say: `tables` with confidence intervals, `plots`, and films by `render`."""
