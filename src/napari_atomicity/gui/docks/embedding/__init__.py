"""The dock Embedding: the clusters in the map of the network's features."""
