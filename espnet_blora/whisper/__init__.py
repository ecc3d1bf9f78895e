"""Whisper as plain torch functions: checkpoints, encoding, cached decoding, vocabulary."""
