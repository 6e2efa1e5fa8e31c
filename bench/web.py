"""Latency that virga adds to a web server: the same server as a web function and stand-alone, alternating."""

import http.client
import os
import shutil
import time

from harness import PEERS, Virga, check, served, spread


def measure(options):
    rounds = 50 if options.quick else 3000
    node = shutil.which("node")
    check(node, "node was not found")
    with Virga(options, []) as server, served([node, "server.js", "{port}"], PEERS) as address:
        start = "#!/bin/bash\nexec %s server.js 9000\n" % os.path.realpath(node)
        server.create_web("web", {"scf_bootstrap": start, "server.js": open(PEERS + "/server.js").read()})
        ways = {
            "direct": (http.client.HTTPConnection(address, timeout=60), "/"),
            "web function": (http.client.HTTPConnection(server.address, timeout=60), server.url("web") + "/"),
        }
        samples = {way: [] for way in ways}
        for turn in range(rounds + 50):
            for way, (connection, path) in ways.items():
                begun = time.perf_counter()
                connection.request("GET", path)
                reply = connection.getresponse()
                body = reply.read()
                took = time.perf_counter() - begun
                check(reply.status == 200 and body == b"hello world\n", (way, reply.status, body))
                if turn >= 50:
                    samples[way].append(took * 1000)
    result = {way: spread(values) for way, values in samples.items()}
    result["added_ms"] = round(result["web function"]["p50_ms"] - result["direct"]["p50_ms"], 3)
    return result
