"""Tells the server of a pod what to do wrong from now on, such as {"trouble": "status", "share": 0.5}; {} is nothing."""

import json
import socket
import sys

plan = json.loads(sys.argv[1])
with socket.create_connection(("127.0.0.1", 8081), timeout=5) as connection:
    connection.sendall((json.dumps({"plan": plan}) + "\n").encode())
    answer = json.loads(connection.makefile().readline())
sys.exit(answer.get("error"))
