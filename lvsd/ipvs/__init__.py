"""The kernel's table: its bytes, the difference of two of them, and the order in which to change it."""
