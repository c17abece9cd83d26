"""Jobs on lanes (`lanes`, `tail`, `width`), and what an episode is (`episodes`)."""
