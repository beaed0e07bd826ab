"""Faults injected for real into a running stack, and an account of every mail: `make faults`."""
