"""An adapted Whisper for the programs of others: files of openai-whisper, transformers and PEFT."""
