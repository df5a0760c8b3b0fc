"""`python -m jachai` → the command line."""

from jachai.cli import main

if __name__ == "__main__":
    main()
