"""What runs and sweeps say: as tables, as a page with films and curves, and while they go on."""
