"""What is wrong with a data set, and what a network goes by: files, metadata baseline, labels, shortcuts."""
