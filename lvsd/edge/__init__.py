"""asyncio and the system: everything that waits, reads a clock or speaks to the kernel."""
