"""Reading of inputs: the user's and untrusted files, with every error at its place, identified by content."""
