"""Single atoms on the canvas: marks, support and magnifier."""
