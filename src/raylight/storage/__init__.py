"""Files that outlive a process: atomic writes, locks, temporary folders, files behind a URI."""
