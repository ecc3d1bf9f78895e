"""One module per corpus: the places of its files, its transcripts, its sets.

Each ends with `CORPUS = Corpus(...)` and is entered in `espnet_blora.data.registry`.
"""
