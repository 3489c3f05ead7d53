"""Drift measured: how often each rule is wrong, and what other tools say about the same samples."""
