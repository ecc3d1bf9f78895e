"""Searches of our own, for what ESPnet's is not made for: many passes over a set."""
