"""The kinds of networks that a config can name, each with its builder."""
