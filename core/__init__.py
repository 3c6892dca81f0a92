"""Vocabulary and rules: what is true. Nothing here knows who asks or who works."""
