"""Network, inference, class maps, model files, estimators."""
