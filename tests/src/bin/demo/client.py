"""Orders once every while over one connection that it keeps, and says what it got; starts anew when that breaks."""

import http.client
import sys
import time

HOST, COUNT, PAUSE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

connection = http.client.HTTPConnection(HOST, 80, timeout=5)
for number in range(COUNT):
    try:
        connection.request("GET", f"/order/{number}")
        print(connection.getresponse().read().decode(), flush=True)
    except OSError as error:
        print(f"lost: {error}", flush=True)
        connection.close()
    except http.client.HTTPException as error:
        print(f"lost: {error}", flush=True)
        connection.close()
    time.sleep(PAUSE)
