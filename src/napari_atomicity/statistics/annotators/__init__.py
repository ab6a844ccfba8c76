"""Several annotators: agreement, consensus and comparison with a model."""
