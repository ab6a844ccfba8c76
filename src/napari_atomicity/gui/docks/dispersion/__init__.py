"""Parts of the Dispersion dock."""
