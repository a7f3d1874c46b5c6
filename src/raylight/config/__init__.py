"""What can be chosen: the schema of a run, its checks, and the launch of a checked config."""
