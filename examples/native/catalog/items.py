"""Reads the catalogue, a data file found from this module's own path."""

from pathlib import Path

import yaml

ITEMS = Path(__file__).parent.parent / "items.yaml"


def load_items():
    return yaml.safe_load(ITEMS.read_text(encoding="utf-8"))["items"]
