"""Network, inference, class maps, model files with their cards, shipped weights."""
