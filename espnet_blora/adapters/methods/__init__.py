"""The adapter methods, one file per method."""
