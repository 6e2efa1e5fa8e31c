"""What isolation costs, and what it is worth when a neighbour is hostile."""

import contextlib
import glob
import http.client
import json
import os
import subprocess
import sys
import time

from harness import EVENT, HERE, Virga, bare_fork, check, processor_seconds, spread

# Each does one thing to its host for as long as it may.
HOSTILE = {
    "spins": "def main_handler(e, c):\n    while True: pass\n",
    "threads": "import threading\ndef spin():\n    while True: pass\ndef main_handler(e, c):\n    for _ in range(32): threading.Thread(target=spin).start()\n    spin()\n",
    "forks": "import os\ndef main_handler(e, c):\n    while True:\n        try: os.fork()\n        except OSError: pass\n",
    "memory": "def main_handler(e, c):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))\n",
    "disk": "def main_handler(e, c):\n    while True:\n        with open('/tmp/x', 'wb', 0) as f:\n            for _ in range(64): f.write(b'x' * (1 << 20))\n",
    "prints": "def main_handler(e, c):\n    while True: print('x' * 1000)\n",
}


def measure(options):
    return {
        "fork_and_import": fork_and_import(options),
        "idle": idle(options),
        "freeze_and_thaw": freeze_and_thaw(options),
        "neighbour": neighbour(options),
    }


def fork_and_import(options):
    """The limit: a warm interpreter's bare fork that imports the handler and calls it, without any isolation."""
    rounds = 20 if options.quick else 300
    command = bare_fork(rounds)
    found = [json.loads(line) for line in run_all([command] * os.cpu_count())]
    alone = json.loads(run_all([command])[0])
    return {
        "per_second": round(sum(one["per_second"] for one in found), 1),
        "pss_kb": alone["pss_kb"],
        **spread(alone["samples_ms"]),
    }


def run_all(commands):
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    return [process.communicate()[0].decode() for process in running]


def idle(options):
    """What thousands of instances that do nothing use, virga itself included."""
    count, seconds = (20, 2) if options.quick else (2000, 20)
    with Virga(options, ["--keep-alive", "900"]) as server:
        server.idle(count)
        before = processor_seconds(server)
        time.sleep(seconds)
        used = processor_seconds(server) - before
    return {"instances": count, "seconds": seconds, "percent": round(max(0, used) / seconds * 100, 2)}


def freeze_and_thaw(options):
    """By the files that virga uses: until an idle instance is frozen, and until it is let go. Beside it the same of a bare `sleep`."""
    rounds = 20 if options.quick else 300
    with Virga(options, ["--freeze-after-ms", "3600000"]) as server:
        server.create("one")
        server.client.call("Invoke", {"FunctionName": "one", "ClientContext": EVENT})
        first = glob.glob("/sys/fs/cgroup/**/%s/*/freezer.state" % server.cgroup, recursive=True)
        files = [(path, "FROZEN", "THAWED", path, "FROZEN") for path in first]
        files += [(path, "1", "0", os.path.dirname(path) + "/cgroup.events", "frozen 1")
                  for path in glob.glob("/sys/fs/cgroup/**/%s/*/cgroup.freeze" % server.cgroup, recursive=True)]
        with_processes = [row for row in files if processes(row[0])]
        check(with_processes, "no instance was found")
        # Blanks that wait for a function are there, too; the most processes are the instance's.
        row = max(with_processes, key=lambda row: len(processes(row[0])))
        slot = os.path.dirname(row[0])
        with bare_sleep(os.path.dirname(slot) + "/bare") as bare:
            # In turns, since the machine is not as fast in each second.
            turns = [(freezes(row), freezes([part.replace(slot, bare) for part in row])) for _ in range(rounds)]
    own, bare = zip(*turns)
    return {**spread(own), "bare_p50_ms": spread(bare)["p50_ms"]}


@contextlib.contextmanager
def bare_sleep(directory):
    os.mkdir(directory)
    sleeps = subprocess.Popen(["sleep", "3600"])
    try:
        with open(directory + "/cgroup.procs", "w") as procs:
            procs.write(str(sleeps.pid))
        yield directory
    finally:
        sleeps.kill()
        sleeps.wait()
        os.rmdir(directory)


def freezes(row):
    """Freezes what is in a control group and lets it go again: how long both took, ms."""
    path, stop, go, state, stopped = row
    numbers = processes(path)
    control, look = os.open(path, os.O_WRONLY), os.open(state, os.O_RDONLY)
    time.sleep(0.005)
    begun = time.perf_counter()
    os.write(control, stop.encode())
    while stopped.encode() not in os.pread(look, 100, 0):
        os.sched_yield()  # What is to stop may need this very processor.
    halted = time.perf_counter()
    # Version 1 shows a frozen process as one that cannot be disturbed; version 2 has said so itself.
    check(path != state or all(state_of(one) == "D" for one in numbers), "what is frozen goes on")
    again = time.perf_counter()
    os.write(control, go.encode())
    took = time.perf_counter() - again + halted - begun
    os.close(control)
    os.close(look)
    return took * 1000


def processes(path):
    return open(os.path.dirname(path) + "/cgroup.procs").read().split()


def state_of(number):
    return open("/proc/%s/stat" % number).read().rsplit(")", 1)[1].split()[0]


def neighbour(options):
    """A small function called at a steady pace: alone, beside each hostile one, and while all of them run.

    Beside it, at the same pace and in the same seconds, virga itself is asked whether it is healthy: what that takes, neither the
    function nor its sandbox has a part in.
    """
    seconds = 2 if options.quick else 15
    with Virga(options, []) as server:
        server.create("small")
        for name, source in HOSTILE.items():
            server.create(name, source, 5)
        paced(server, 1)
        quiet = paced(server, seconds)
        kinds = {name: beside(server, [name], seconds / 2)["function"] for name in HOSTILE}
        loud = beside(server, list(HOSTILE), seconds)
    return {
        "quiet": quiet["function"],
        "loud": loud["function"],
        "times": times(loud["function"], quiet["function"]),
        "times_by_kind": {name: times(row, quiet["function"]) for name, row in kinds.items()},
        "virga_quiet": quiet["virga"],
        "virga_loud": loud["virga"],
        "machine": machine_alone(seconds / 3),
    }


def machine_alone(seconds):
    """What the machine itself adds where all its processors are busy: how long a millisecond's work takes that nothing disturbs.

    A virtual machine's processors are taken from it now and then, and more so where it uses all of them.
    """
    command = [sys.executable, "-c", MILLISECOND, str(seconds)]
    found = run_all([command] * os.cpu_count())
    return spread([sample for one in found for sample in json.loads(one)])


MILLISECOND = """
import json, sys, time
def work(rounds):
    begun = time.perf_counter()
    for _ in range(rounds): pass
    return (time.perf_counter() - begun) * 1000
rounds = round(100000 / min(work(100000) for _ in range(50)))
until, samples = time.perf_counter() + float(sys.argv[1]), []
while time.perf_counter() < until: samples.append(work(rounds))
print(json.dumps(samples))
"""


def times(loud, quiet):
    return round(loud["p99_ms"] / quiet["p99_ms"], 2)


def beside(server, names, seconds):
    """The same while others run."""
    command = [sys.executable, HERE + "/hostile.py", server.address, *server.pair, *names]
    hostile = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        time.sleep(1)
        return paced(server, seconds)
    finally:
        hostile.stdin.close()
        hostile.wait()


def paced(server, seconds):
    function, virga, client = [], [], server.connect()
    health = http.client.HTTPConnection(server.address, timeout=60)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        request = client.signed("Invoke", {"FunctionName": "small", "ClientContext": EVENT})
        begun = time.perf_counter()
        answer = client.send(*request)
        function.append((time.perf_counter() - begun) * 1000)
        check(b"hello" in answer, answer)
        time.sleep(0.005)
        begun = time.perf_counter()
        health.request("GET", "/healthz")
        check(health.getresponse().read() != b"", "virga is not healthy")
        virga.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.005)
    return {"function": spread(function), "virga": spread(virga)}
