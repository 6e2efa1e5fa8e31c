"""Asynchronous events: durable events accepted per second, and the latency from an event to its handler.

Peers are configured for the same guarantee: a message is acknowledged once it is on disk. See README.md in this directory.
"""

import concurrent.futures
import json
import multiprocessing
import os
import socket
import subprocess
import tempfile
import time
import urllib.request

from harness import EVENT, Load, Virga, check, served, sync_time

CONNECTIONS = 64
STAMPS = "import time\ndef main_handler(event, context):\n    return [event['n'], time.time()]\n"


def measure(options):
    # All use the same disk, that of the temporary directory.
    return {
        "accepted": {
            "virga": virga(options),
            "nats jetstream, sync always": nats(options),
            "redis list, fsync always": redis(options),
        },
        "delay": delay(options),
        "sync_us": sync_time(),
    }


def virga(options):
    """Signed requests over HTTP. The function is throttled meanwhile, as the peers' messages have no consumer."""
    with Virga(options, ["--event-store-mb", "65536"]) as server:
        server.create("later")
        server.client.call("PutReservedConcurrencyConfig", {"FunctionName": "later", "ReservedConcurrencyMem": 0})
        headers, body = server.client.signed("Invoke", {"FunctionName": "later", "InvocationType": "Event", "ClientContext": EVENT})
        load = Load(server.address, headers, body, '"InvokeResult":0')
        load.checked(CONNECTIONS, 1)  # Warm-up.
        found = load.checked(CONNECTIONS, 1 if options.quick else 8)
        page = urllib.request.urlopen("http://%s/metrics" % server.address).read().decode()
        waiting = [line.split()[1] for line in page.splitlines() if line.startswith("virga_events_waiting ")]
        check(int(waiting[0]) >= found["requests"], "%s events are queued, but %d were acknowledged" % (waiting[0], found["requests"]))
        return round(found["requests"] / found["us"] * 1e6)


def nats(options):
    program = os.path.join(options.venv, "bin", "nats-server")
    with tempfile.TemporaryDirectory() as directory:
        config = directory + "/nats.conf"
        with open(config, "w") as file:
            file.write('jetstream { store_dir: "%s", sync_interval: always, max_file: 8G }\n' % directory)
        command = [program, "-a", "127.0.0.1", "-p", "{port}", "-c", config, "-l", directory + "/log"]
        with served(command, None) as address:
            stream = {"name": "events", "subjects": ["ev"], "storage": "file", "retention": "workqueue"}
            check(b'"error"' not in Publisher(address).ask("$JS.API.STREAM.CREATE.events", json.dumps(stream).encode()), "no stream")
            return publish(address, 1 if options.quick else 8)


class Publisher:
    """A connection that publishes a message and waits for its acknowledgement."""

    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.inbox = b"_INBOX.%d.%d" % (os.getpid(), id(self))
        self.file.readline()
        self.socket.sendall(b'CONNECT {"verbose":false}\r\nSUB %s 1\r\n' % self.inbox)

    def ask(self, subject, payload):
        self.socket.sendall(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), self.inbox, len(payload), payload))
        while True:
            line = self.file.readline()
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                return self.file.read(int(line.split()[-1]) + 2)


def publish(address, seconds):
    """Acknowledged messages per second, sent by threads of several processes, since threads of one share a lock."""
    processes = 4

    def load(pipe):
        def one(_):
            publisher, count = Publisher(address), 0
            until = time.time() + seconds
            while time.time() < until:
                check(b'"seq"' in publisher.ask("ev", EVENT.encode()), "not acknowledged")
                count += 1
            return count

        each = CONNECTIONS // processes
        with concurrent.futures.ThreadPoolExecutor(each) as pool:
            pipe.send(sum(pool.map(one, range(each))))

    fork = multiprocessing.get_context("fork")
    running = []
    for _ in range(processes):
        mine, theirs = fork.Pipe()
        process = fork.Process(target=load, args=(theirs,))
        process.start()
        running.append((process, mine))
    total = sum(pipe.recv() for _, pipe in running)
    for process, _ in running:
        process.join()
    return round(total / seconds)


def redis(options):
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes",
                   "--appendfsync", "always", "--save", "", "--logfile", directory + "/log"]
        with served(command, None) as address:
            count = 2000 if options.quick else 100000
            command = ["redis-benchmark", "-p", address.split(":")[1], "-c", str(CONNECTIONS), "-n", str(count), "--csv",
                       "LPUSH", "events", EVENT]
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
            return round(float(output.splitlines()[-1].split(",")[1].strip('"')))


def delay(options):
    """Latency from sending an event to the first line of its handler, at 100 events/s, with a warm instance."""
    seconds = 2 if options.quick else 20
    with Virga(options, []) as server:
        server.create("stamps", STAMPS)
        server.client.call("Invoke", {"FunctionName": "stamps", "ClientContext": '{"n": -1}'})
        sent, clients = {}, [server.connect() for _ in range(4)]
        begun = time.time()
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:

            def send(client, numbers):
                for n in numbers:
                    time.sleep(max(0, begun + n / 100 - time.time()))
                    request = client.signed("Invoke", {"FunctionName": "stamps", "InvocationType": "Event", "ClientContext": '{"n": %d}' % n})
                    sent[n] = time.time()
                    check(b'"InvokeResult":0' in client.send(*request), "not accepted")

            total = 100 * seconds
            list(pool.map(send, clients, [range(start, total, len(clients)) for start in range(len(clients))]))
        took = {}
        for _ in range(600):
            answer = server.client.call("GetFunctionLogs", {"FunctionName": "stamps", "Limit": 10000})
            for log in answer["Data"]:
                n, started = json.loads(log["RetMsg"])
                if n in sent:
                    took[n] = (started - sent[n]) * 1000
            if len(took) == total:
                break
            time.sleep(0.1)
        check(len(took) == total, "%d of %d events ran" % (len(took), total))
        values = sorted(took.values())
        return {"n": total, "p50_ms": round(values[total // 2], 2), "p99_ms": round(values[total * 99 // 100], 2)}


def targets(results):
    accepted, waited = results["accepted"], results["delay"]
    rows = [("durable events accepted/s, 64 connections", accepted["virga"], ">=", 5000)]
    rows.append(("event to handler at 100/s, warm, p50 ms", waited["p50_ms"], "<=", 5))
    return rows


def show(results):
    accepted, waited = results["accepted"], results["delay"]
    print("durable events accepted/s, %d connections (one fsync of this disk: %d us)" % (CONNECTIONS, results["sync_us"]))
    for name, rate in accepted.items():
        print("  %-34s %8d" % (name, rate))
    print("event to handler at 100/s: p50 %.2f ms, p99 %.2f ms (n=%d)" % (waited["p50_ms"], waited["p99_ms"], waited["n"]))
