"""Probe outcomes to verdicts to effective weights."""
