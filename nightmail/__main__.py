"""`python -m nightmail`."""

from nightmail.cli import main

if __name__ == "__main__":
    main()
