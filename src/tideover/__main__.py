"""`python -m tideover`: the command line."""

from tideover.cli import main

if __name__ == "__main__":
    main()
