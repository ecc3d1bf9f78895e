"""Search over batches, and what stands around it: opened models, words, times, confidence."""
