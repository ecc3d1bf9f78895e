"""Kaldi data directories, and one module for each corpus."""
