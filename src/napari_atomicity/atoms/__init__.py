"""Single atoms: detection, groups, completeness, counting."""
