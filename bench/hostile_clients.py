"""Latency of signed small calls, and virga's memory, beside 2,000 hostile connections.

    hostile_clients.py [--virga PATH] [--seconds N]

The hostile connections are of eight kinds at once: request heads that trickle or never end, idle connections, bodies that
trickle, forms of signature version 1, large bodies with an invalid signature, large bodies to an open URL, and clients that
do not read the response. They come from the measuring client's own address, and then from 200 others. Targets: no call fails,
p99 is within 3 times the quiet p99, and virga's memory grows by less than 300 MB. All traffic stays on the loopback interface.

Attackers usually have processors of their own. Here they share the machine, so they have the policy SCHED_IDLE and use only
what virga and the measuring client leave. Most of what remains is still the machine's: to show how much, the same clients also attack
a second virga while the first is measured ("beside").
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time

from client import Client
from harness import Virga

CONNECTIONS = 2000
# Bytes sent at a time. The kernel is not preempted within one send.
PIECE = 64 << 10
OPEN = """
import time
def main_handler(event, context):
    if event.get("queryString", {}).get("large"):
        return "x" * (5 << 20)
    time.sleep(2)
    return "done"
"""


class Attack:
    """What the hostile clients have done so far, shared with their process."""

    def __init__(self):
        self.connections, self.bytes = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)

    def state(self):
        return self.connections.value, self.bytes.value, time.time()

    def since(self, before):
        """Returns the connections and MB per second since an earlier state."""
        connections, sent, took = (now - then for now, then in zip(self.state(), before))
        return {"connections_per_s": round(connections / took), "mb_per_s": round(sent / took / 1e6, 1)}


class HostileClient:
    """A hostile connection, reopened shortly after virga has closed it."""

    def __init__(self, attack, address, source, pair, path):
        self.attack = attack
        self.host, self.port = address.split(":")
        self.source, self.pair, self.path = source, pair, path

    async def connect(self, receives=None):
        connection = socket.socket()
        connection.setblocking(False)
        if receives:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        connection.bind((self.source, 0))
        await asyncio.get_running_loop().sock_connect(connection, (self.host, int(self.port)))
        self.attack.connections.value += 1
        return connection

    async def live(self, kind):
        while True:
            connection = None
            try:
                connection = await self.connect(8192 if kind == "reads_nothing" else None)
                await getattr(self, kind)(connection)
            except OSError:
                pass
            finally:
                if connection:
                    connection.close()
            await asyncio.sleep(1)

    async def send(self, connection, data):
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            await asyncio.get_running_loop().sock_sendall(connection, piece)
            self.attack.bytes.value += len(piece)

    async def until_closed(self, connection):
        while await asyncio.get_running_loop().sock_recv(connection, 65536):
            pass

    async def trickle(self, connection):
        while True:
            await self.send(connection, b"x")
            await asyncio.sleep(1)

    def head(self, path, length, more=""):
        return ("POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (
            path, self.host, self.port, length, more)).encode()

    def signed(self, length):
        """Returns the head of a request with an invalid signature."""
        client = Client("%s:%s" % (self.host, self.port), self.pair[0], "wrong")
        headers, _ = client.signed("Invoke", {})
        more = "".join("%s: %s\r\n" % pair for pair in headers.items() if pair[0] not in ("Host", "Content-Type"))
        return self.head("/", length, more)

    async def heads_trickle(self, connection):
        await self.send(connection, b"GET / HTTP/1.1\r\nX-Long: ")
        await self.trickle(connection)

    async def heads_never_end(self, connection):
        await self.send(connection, b"GET / HTTP/1.1\r\n" + b"X-Long: %s\r\n" % (b"x" * 900) * 120)
        await self.until_closed(connection)

    async def idles(self, connection):
        await self.until_closed(connection)

    async def bodies_trickle(self, connection):
        await self.send(connection, self.signed(200_000) + b"x" * 70_000)
        await self.trickle(connection)

    async def forms(self, connection):
        await self.send(connection, self.head("/", 32 << 20))
        for _ in range(32):
            await self.send(connection, b"a=1&" * (256 << 10))

    async def wrong_signatures(self, connection):
        await self.send(connection, self.signed(8 << 20))
        for _ in range(8):
            await self.send(connection, b" " * (1 << 20))
        await self.until_closed(connection)

    async def bodies_wait(self, connection):
        await self.send(connection, self.head(self.path, 5 << 20))
        for _ in range(5):
            await self.send(connection, b"x" * (1 << 20))
        await self.until_closed(connection)

    async def reads_nothing(self, connection):
        await self.send(connection, self.head(self.path + "?large=1", 0))
        await asyncio.sleep(3600)


KINDS = ["heads_trickle", "heads_never_end", "idles", "bodies_trickle", "forms", "wrong_signatures", "bodies_wait", "reads_nothing"]


def hostile(attack, address, sources, pair, path, kinds):
    """Runs all hostile clients until the process is terminated."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    async def run():
        every = zip(range(CONNECTIONS), itertools.cycle(kinds))
        await asyncio.gather(*(HostileClient(attack, address, sources[number % len(sources)], pair, path).live(kind) for number, kind in every))

    asyncio.run(run())


def resident(virga):
    lines = open("/proc/%d/status" % virga.process.pid).read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measure(virga, seconds):
    """Makes sequential calls, with a new connection for every tenth. Returns p50, p90 and p99 (ms), failures and peak memory."""
    took, failed, most = [], [], 0
    client, end = virga.connect(), time.time() + seconds
    while time.time() < end:
        if len(took) % 10 == 0:
            client.connection.close()
            client = virga.connect()
        begun = time.perf_counter()
        try:
            client.call("Invoke", {"FunctionName": "small", "ClientContext": "{}"})
        except Exception as error:
            failed.append(repr(error))
            client = virga.connect()
        took.append((time.perf_counter() - begun) * 1000)
        most = max(most, resident(virga))
        time.sleep(0.01)
    cuts = statistics.quantiles(took, n=100)
    return {"calls": len(took), "p50_ms": round(cuts[49], 2), "p90_ms": round(cuts[89], 2), "p99_ms": round(cuts[98], 2), "failed": len(failed),
            "first_failures": failed[:3], "rss_mb": round(most)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--virga", default="target/release/virga")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    results = {}
    one, many = ["127.0.0.1"], ["127.0.1.%d" % n for n in range(1, 201)]
    with Virga(options, ["--network", "none"]) as virga, Virga(options, ["--network", "none"]) as other:
        attacked = {}
        for server in (virga, other):
            server.create("small")
            server.create("open", OPEN, timeout=30)
            attacked[server] = server.url("open")
            server.client.call("PutReservedConcurrencyConfig", {"FunctionName": "open", "ReservedConcurrencyMem": 512})
        measure(virga, 2)
        results["quiet"] = measure(virga, options.seconds / 2)
        for name, server, sources in (("one", virga, one), ("200", virga, many), ("beside", other, one)):
            attack = Attack()
            arguments = (attack, server.address, sources, server.pair, attacked[server], options.kinds.split(","))
            process = multiprocessing.Process(target=hostile, args=arguments, daemon=True)
            process.start()
            time.sleep(5)
            before = attack.state()
            results[name] = measure(virga, options.seconds)
            results[name]["attack"] = attack.since(before)
            process.terminate()
            process.join()
            time.sleep(3)
        results["after"] = measure(virga, 3)
        closed = virga.client.connection
        closed.request("GET", "/metrics")
        page = closed.getresponse().read().decode()
        results["closed"] = [line for line in page.splitlines() if line.startswith("virga_connections")]
    print(json.dumps(results, indent=1))
    quiet, good = results["quiet"], True
    beside = results["beside"]
    print("beside the attack on another virga: p99 %.2f ms, %.1f times the quiet %.2f ms" % (
        beside["p99_ms"], beside["p99_ms"] / quiet["p99_ms"], quiet["p99_ms"]))
    for name in ("one", "200"):
        found = results[name]
        more = found["rss_mb"] - quiet["rss_mb"]
        ratio = found["p99_ms"] / quiet["p99_ms"]
        good = good and found["failed"] == 0 and ratio <= 3 and more < 300
        print("from %s: p99 %.2f ms, %.1f times the quiet %.2f ms (target: 3); %d of %d calls failed; %d MB more memory (target: 300)" % (
            name, found["p99_ms"], ratio, quiet["p99_ms"], found["failed"], found["calls"], more))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
