"""The command line: flags become frozen options here, and go no further."""
