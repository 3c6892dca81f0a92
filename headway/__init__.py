"""The public face of Headway: its version. The folders beside this file are links to the packages at the top."""

__version__ = "0.1.0"
