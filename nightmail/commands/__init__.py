"""One file per group of commands; nightmail/cli.py says which command is where."""
