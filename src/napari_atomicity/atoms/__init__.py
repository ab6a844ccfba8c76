"""Single atoms: found, grouped, counted with."""
