"""Latency from the PUT of an object to its function. See README.md in this directory.

Measured from sending the first byte of the PUT to the first line of the handler, both by the host's clock. In between, virga
syncs the object and its change notification in one commit, responds, syncs the event in its queue, and finds or starts an
instance.
"""

import http.client
import json
import time

from buckets import BUCKET, Place
from harness import Virga, check, spread

STAMPS = """import time
def main_handler(event, context):
    return [event["Records"][0]["cos"]["cosObject"]["key"], time.time()]
"""
COLD = """import time
BEGUN = time.time()
def main_handler(event, context):
    return [event["Records"][0]["cos"]["cosObject"]["key"], BEGUN]
"""


def measure(options):
    return {"warm": warm(options), "cold": cold(options)}


def watch(server, function, prefix):
    desc = json.dumps({"event": "cos:ObjectCreated:*", "filter": {"Prefix": prefix}})
    name = BUCKET + "-1250000000.cos.ap-guangzhou.myqcloud.com"
    server.client.call("CreateTrigger", {"FunctionName": function, "Type": "cos", "TriggerName": name, "TriggerDesc": desc})


class Putter:
    """Puts objects over one connection, and records the times."""

    def __init__(self, server):
        self.place = Place(server.buckets, server.pair)
        self.connection = http.client.HTTPConnection(server.buckets, timeout=60)
        self.connection.connect()
        self.sent = {}

    def put(self, key):
        path = self.place.sign("PUT", key)
        self.sent[key] = time.time()
        self.connection.request("PUT", path, b"x" * 4096)
        answer = self.connection.getresponse()
        check(answer.read() is not None and answer.status == 200, "not put: %d" % answer.status)


def started(server, functions, count):
    """Waits until `count` events have run; returns the start time of the handler by key."""
    for _ in range(600):
        found = {}
        for function in functions:
            logs = server.client.call("GetFunctionLogs", {"FunctionName": function, "Limit": 10000})["Data"]
            found.update((key.split("/", 3)[3], at) for key, at in (json.loads(log["RetMsg"]) for log in logs))
        if len(found) >= count:
            return found
        time.sleep(0.1)
    check(False, "%d of %d events ran" % (len(found), count))


def took(putter, begun):
    return spread([(begun[key] - sent) * 1000 for key, sent in putter.sent.items()])


def warm(options):
    """50 objects per second, for a function with a warm instance."""
    count = 50 if options.quick else 1000
    with Virga(options, []) as server:
        server.create("stamps", STAMPS)
        watch(server, "stamps", "in/")
        putter = Putter(server)
        putter.put("in/first")
        started(server, ["stamps"], 1)
        begun = time.time()
        putter.sent.clear()
        for number in range(count):
            time.sleep(max(0, begun + number / 50 - time.time()))
            putter.put("in/%d" % number)
        return took(putter, started(server, ["stamps"], count + 1))


def cold(options):
    """One object for each of many functions, none of which has an instance."""
    count = 5 if options.quick else 100
    with Virga(options, ["--keep-alive", "1"]) as server:
        functions = ["f%d" % number for number in range(count + 1)]
        for function in functions:
            server.create(function, COLD)
            watch(server, function, function + "/")
        putter = Putter(server)
        # Exclude the first start of the interpreter, which is not a cold start of a function.
        putter.put("f%d/x" % count)
        started(server, functions[count:], 1)
        time.sleep(1)
        putter.sent.clear()
        for function in functions[:count]:
            putter.put(function + "/x")
            # Wait until the used sandbox was replaced.
            time.sleep(0.03)
        return took(putter, started(server, functions[:count], count))


def targets(results):
    return [
        ("object PUT to function, warm, p50 ms", results["warm"]["p50_ms"], "<=", 8),
        ("object PUT to function, cold, p50 ms", results["cold"]["p50_ms"], "<=", 12),
    ]


def show(results):
    warm, cold = results["warm"], results["cold"]
    print("object PUT to function: warm p50 %.2f ms, p99 %.2f ms (n=%d); cold p50 %.2f ms, p99 %.2f ms (n=%d)" %
          (warm["p50_ms"], warm["p99_ms"], warm["n"], cold["p50_ms"], cold["p99_ms"], cold["n"]))
