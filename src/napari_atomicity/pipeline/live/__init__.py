"""A watched folder: each new image is analysed, and the session is monitored."""
