"""What a run leaves behind and what it runs on: its folder, its tracking, its machine, its Ray session."""
