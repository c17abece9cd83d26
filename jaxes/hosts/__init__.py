"""Many processes as one: they exchange scalars, and one of them writes."""
