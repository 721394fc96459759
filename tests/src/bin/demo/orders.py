"""Takes orders and asks another service for the price: the standard library, plain HTTP, no word of a mesh."""

import http.server
import json
import socket
import sys
import urllib.request

NAME, PORT, PRICES = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Orders(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with urllib.request.urlopen(PRICES, timeout=5) as answer:
            price = answer.read().decode()
        body = json.dumps({"order": self.path, "price": price, "by": NAME}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("::", PORT), Orders).serve_forever()
