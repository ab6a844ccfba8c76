"""The docks, a file each: they read settings, start a task and show a result."""
