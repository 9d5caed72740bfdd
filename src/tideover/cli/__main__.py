"""`python -m tideover.cli`."""

from tideover.cli import main

if __name__ == "__main__":
    main()
