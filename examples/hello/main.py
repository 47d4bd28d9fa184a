"""A small program that touches much of the standard library, so that its binary proves more than `print` would."""

import argparse
import asyncio
import http.server
import json
import logging
import platform
import sqlite3
import threading
import urllib.request
from pathlib import Path

from greeting import greet

VERSION = "1.0.0"
# Data files lie beside this file in the source tree and in the unpacked binary alike.
DATA = Path(__file__).parent / "data" / "greetings.json"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        logging.debug(format, *args)


def fetch_from_self():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/ping", timeout=10) as reply:
            return json.load(reply)["path"]
    finally:
        server.shutdown()


def count_rows():
    with sqlite3.connect(":memory:") as database:
        database.execute("create table numbers (n integer)")
        database.executemany("insert into numbers values (?)", [(n,) for n in range(10)])
        return database.execute("select sum(n) from numbers").fetchone()[0]


async def add_slowly(left, right):
    await asyncio.sleep(0.01)
    return left + right


def main():
    parser = argparse.ArgumentParser(prog="hello", description=__doc__)
    parser.add_argument("--version", action="version", version=f"hello {VERSION}")
    parser.add_argument("--language", default="en", help="language of the greeting")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.WARNING)

    greetings = json.loads(DATA.read_text(encoding="utf-8"))
    print(greet(greetings[arguments.language], platform.machine()))
    print(f"sqlite {count_rows()}, asyncio {asyncio.run(add_slowly(20, 22))}, http {fetch_from_self()}")


if __name__ == "__main__":
    main()
