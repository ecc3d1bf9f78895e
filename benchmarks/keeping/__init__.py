"""What `retention.py` is made of: the bed, its trainings, and the test of its curves."""
