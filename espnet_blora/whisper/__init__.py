"""Whisper as plain torch functions: checkpoints, padding-safe encoding, cached decoding, vocabulary."""
