"""The ground floor: files, keyed text, near misses, mistakes, programs. Standard library only."""
