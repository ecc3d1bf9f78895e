"""An adapted Whisper for the programs of others: openai-whisper's and Hugging Face's files."""
