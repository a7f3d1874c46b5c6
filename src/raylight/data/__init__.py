"""From files to decoded pixels: source, index, split, duplicates, decode, cache, batches."""
