"""The program; it is compiled as `python -m catalog` runs it, so relative imports work."""

import argparse

from . import VERSION
from .items import load_items
from .render import checksum, render


def main():
    parser = argparse.ArgumentParser(prog="catalog", description="render a catalogue of things")
    parser.add_argument("--version", action="version", version=f"catalog {VERSION}")
    parser.add_argument("--extensions", action="store_true", help="say which compiled extension modules are in use")
    arguments = parser.parse_args()

    page = render(load_items())
    print(page, end="")
    print(f"crc-32 {checksum(page):08x}")
    if arguments.extensions:
        from .extensions import report

        print("\n".join(report()))


if __name__ == "__main__":
    main()
