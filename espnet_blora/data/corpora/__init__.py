"""One module a corpus: where its files lie, how its transcripts read, which sets it has.

Each ends with `CORPUS = Corpus(...)` and is entered in `espnet_blora.data.registry`.
"""
