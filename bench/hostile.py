"""Calls functions in a loop, each from its own thread, until stdin is closed.  hostile.py ADDRESS ID KEY NAME …

It is a separate process, so that its threads do not delay the measuring process.
"""

import contextlib
import sys
import threading

from client import Client

address, key_id, key, *names = sys.argv[1:]
over = threading.Event()


def hostile(name):
    client = Client(address, key_id, key)
    while not over.is_set():
        with contextlib.suppress(Exception):
            client.call("Invoke", {"FunctionName": name})


threads = [threading.Thread(target=hostile, args=(name,)) for name in names]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
