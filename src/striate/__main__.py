"""`python -m striate`: the same as the command `striate`."""

from striate.cli.main import main

if __name__ == "__main__":
    main()
