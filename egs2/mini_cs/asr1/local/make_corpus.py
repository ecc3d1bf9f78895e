#!/usr/bin/env python3
"""Make the corpus of this recipe: local/make_corpus.py OUT_DIR [--sets ...]; see --help."""

from espnet_blora.data.mini_cs import main

if __name__ == "__main__":
    main()
