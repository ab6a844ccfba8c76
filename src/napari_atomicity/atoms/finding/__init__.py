"""Find single atoms: candidates, network, position and operating point."""
