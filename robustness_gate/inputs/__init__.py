"""What arrives: files of a person's or a stranger's, read with every complaint in its place, and named by content."""
