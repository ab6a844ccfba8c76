"""Train models from images, corrections or simulation."""
