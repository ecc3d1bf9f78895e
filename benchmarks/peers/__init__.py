"""The systems that decode.py compares, the checkpoints they read and the processes they run in."""
