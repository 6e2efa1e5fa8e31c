"""The cost of isolation, and its effect beside a hostile neighbour."""

import contextlib
import glob
import http.client
import json
import os
import subprocess
import sys
import time

from harness import EVENT, HERE, Virga, check, plain_fork, processor_seconds, spread

# Each exhausts one resource of the host until its timeout.
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
    """The plain-fork baseline: a fork of a preloaded interpreter imports and calls the handler, without isolation."""
    rounds = 20 if options.quick else 300
    command = plain_fork(rounds)
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
    """CPU use of thousands of idle instances, including virga itself."""
    count, seconds = (20, 2) if options.quick else (2000, 20)
    with Virga(options, ["--keep-alive", "900"]) as server:
        server.idle(count)
        before = processor_seconds(server)
        time.sleep(seconds)
        used = processor_seconds(server) - before
    return {"instances": count, "seconds": seconds, "percent": round(max(0, used) / seconds * 100, 2)}


def freeze_and_thaw(options):
    """Time to freeze and thaw an idle instance through the cgroup files that virga uses, compared to a `sleep` process."""
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
        # Pre-warmed sandboxes are among them; the instance is the one with the most processes.
        row = max(with_processes, key=lambda row: len(processes(row[0])))
        slot = os.path.dirname(row[0])
        with sleep_in_cgroup(os.path.dirname(slot) + "/bare") as baseline:
            # Alternate, because the speed of the machine varies over time.
            turns = [(freezes(row), freezes([part.replace(slot, baseline) for part in row])) for _ in range(rounds)]
    own, baseline = zip(*turns)
    return {**spread(own), "bare_p50_ms": spread(baseline)["p50_ms"]}


@contextlib.contextmanager
def sleep_in_cgroup(directory):
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
    """Freezes and thaws a cgroup; returns the total time (ms)."""
    path, stop, go, state, stopped = row
    numbers = processes(path)
    control, look = os.open(path, os.O_WRONLY), os.open(state, os.O_RDONLY)
    time.sleep(0.005)
    begun = time.perf_counter()
    os.write(control, stop.encode())
    while stopped.encode() not in os.pread(look, 100, 0):
        os.sched_yield()  # A process that is to freeze may need this CPU.
    halted = time.perf_counter()
    # With cgroup v1, frozen processes are in state D; v2 reports the frozen state itself.
    check(path != state or all(state_of(one) == "D" for one in numbers), "a frozen process is still running")
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
    """Latency of a small function at a constant rate: alone, beside each hostile function, and beside all of them.

    At the same rate and at the same time, it calls virga's own `/healthz`, whose latency does not depend on a function or
    sandbox.
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
    """Jitter of the machine itself under full load: the time that 1 ms of undisturbed work takes.

    A host takes CPUs away from a virtual machine (steal), more often if all are busy.
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
    """Measures the small function while hostile functions run."""
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
        check(health.getresponse().read() != b"", "/healthz failed")
        virga.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.005)
    return {"function": spread(function), "virga": spread(virga)}
