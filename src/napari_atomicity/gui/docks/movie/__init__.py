"""Parts of the Movie dock."""
