"""What the dock Atoms is made of."""
