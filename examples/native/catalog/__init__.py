"""Renders a small catalogue with the help of compiled extension modules."""

VERSION = "2.1.0"
