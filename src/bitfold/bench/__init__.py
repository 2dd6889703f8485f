"""Honest numbers: interleaved timing, machine facts, peers, JSON rows."""
