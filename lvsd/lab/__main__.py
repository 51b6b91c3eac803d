"""`python -m lvsd.lab` is the command `lvsd lab`."""

import argparse

from lvsd.lab import cli

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="lvsd lab")
    cli.add_arguments(parser)
    raise SystemExit(cli.main(parser.parse_args()))
