"""The commands, one file each: its docstring is the help, `arguments` and `main` are called by the table."""
