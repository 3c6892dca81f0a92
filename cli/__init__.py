"""Words in, words out: the command line and the service behind it."""
