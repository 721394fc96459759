"""An application between two others, as anyone would write it: python forward.py PORT URL.

Every request becomes a GET to URL, whose status and body it answers with. What joins the hops of a request (`traceparent`,
`x-request-id`) is passed on, unless the caller sends `x-drop`; any header that begins with `x-posthaste-` is passed on as well.
"""

import http.client
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TARGET = urlsplit(sys.argv[2])


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        passed = {n: v for n, v in self.headers.items() if n.lower() in ("traceparent", "x-request-id") or n.lower().startswith("x-posthaste-")}
        connection = http.client.HTTPConnection(TARGET.hostname, TARGET.port, timeout=20)
        connection.request("GET", self.path, headers={} if self.headers.get("x-drop") else passed)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.address_family = socket.AF_INET6
server = ThreadingHTTPServer(("::", int(sys.argv[1])), Forward)
print("listening", flush=True)
server.serve_forever()
