"""What a trained model knows about its own errors, from images that it was not trained on."""
