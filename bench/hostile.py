"""Calls functions again and again, each from a thread of its own, until its standard input ends.  hostile.py ADDRESS ID KEY NAME …

It is a process beside the one that measures, which must not wait for its threads.
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
