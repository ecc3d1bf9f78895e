"""An adapted Whisper for the programs of others, each checked by its reader; and theirs, for us."""
