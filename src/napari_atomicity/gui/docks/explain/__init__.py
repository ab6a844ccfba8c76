"""The parts of the Explain dock."""
