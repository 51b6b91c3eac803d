"""lvsd: a director daemon for the Linux Virtual Server."""

__version__ = "0.1.0"
