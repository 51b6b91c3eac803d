"""Text to `Config`, or every mistake that was found, each with its place."""
