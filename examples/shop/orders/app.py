"""Takes orders (POST /orders, item=NAME), lists them (GET /orders), keeps them in PostgreSQL."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import psycopg2

PASSWORD = Path("/run/secrets/db_password").read_text().strip()


def database():
    return psycopg2.connect(
        host=os.environ["DB_HOST"], dbname="shop", user="shop", password=PASSWORD
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, item FROM orders ORDER BY id")
            self.answer(200, [{"id": number, "item": item} for number, item in cursor])

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        item = parse_qs(body).get("item", [""])[0]
        if not item:
            self.answer(400, {"error": "item=NAME is missing"})
            return
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (item) VALUES (%s) RETURNING id", (item,))
            self.answer(201, {"id": cursor.fetchone()[0], "item": item})

    def answer(self, status, value):
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)"
        )
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
