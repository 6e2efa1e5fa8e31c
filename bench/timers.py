"""100,000 timers: their cost while none is due, and the lateness of 1,000 timers that are due in the same second."""

import json
import os
import sqlite3
import time

from harness import HERE, Virga, check, metrics, processor_seconds, resident

TIMERS = 100_000
OF_A_FUNCTION = 10
DUE = 1000
APART = 10
HEADER = "virga_timer_lateness_seconds_"


def measure(options):
    timers, due = (2000, 100) if options.quick else (TIMERS, DUE)
    idle_for, rounds = (2, 2) if options.quick else (20, 6)
    with Virga(options, ["--timer-missed", "skip"]) as virga:
        virga.create("f0")
        digest = virga.client.call("GetFunctionAddress", {"FunctionName": "f0"})["CodeSha256"]
        virga.stop()
        begin = write(virga.directory + "/catalog.sqlite", digest, timers // OF_A_FUNCTION, due, 60 if options.quick else 180, rounds)
        # The first start encrypts the plaintext records.
        virga.start()
        virga.stop()
        begun = time.perf_counter()
        virga.start()
        ready = time.perf_counter() - begun
        check(gauge(virga, "virga_timers") == timers, "not all timers are enabled")
        # Wait until the background work of the start has finished.
        time.sleep(5 if options.quick else 20)
        before = processor_seconds(virga)
        time.sleep(idle_for)
        idle = (processor_seconds(virga) - before) / idle_for * 100
        kb = resident(virga)
        check(time.time() < begin - 1, "the first round was due before the measurement was ready")
        late = {}
        while late.get("+Inf", 0) < due * rounds:
            check(time.time() < begin + APART * rounds + 60, "timed out waiting for the timers: %s" % late)
            time.sleep(1)
            late = buckets(virga)
    check(late["+Inf"] == due * rounds, "%s events for %d due timers" % (late["+Inf"], due * rounds))
    return {
        "timers": timers,
        "ready_s": round(ready, 3),
        "resident_mb": round(kb / 1024, 1),
        "idle_percent": round(idle, 2),
        "due": due,
        "rounds": rounds,
        "late_ms": {"p50": within(late, 0.5), "p99": within(late, 0.99)},
    }


def write(path, digest, functions, due, wait, rounds):
    """Writes functions with ten timers each, most of them due the day after tomorrow, and some due together in rounds.

    Writes directly into the catalog file, because 100,000 API calls take long. Returns the time of the first round.
    """
    first = int(time.time()) + wait
    together = []
    for number in range(rounds):
        at = time.gmtime(first + APART * number + 8 * 3600)  # Asia/Shanghai.
        together.append("%d %d %d %d %d * %d" % (at.tm_sec, at.tm_min, at.tm_hour, at.tm_mday, at.tm_mon, at.tm_year))
    later = time.gmtime(first + 2 * 86_400)
    stored = json.load(open(os.path.join(HERE, "..", "crates", "catalog", "tests", "function-v1.json")))
    record = stored["record"]
    now = int(time.time() * 1000)
    code = dict(record["code"], package=digest, tree=digest)
    place = {"account": 1250000000, "namespace": "default"}
    of_due = due // OF_A_FUNCTION

    def timer(name, cron):
        spec = {"kind": "timer", "cron": cron, "message": ""}
        return {"name": name, "qualifier": "$LATEST", "enabled": True, "since": now, "description": "", "spec": spec, "added": now, "modified": now}

    def row(number):
        name = "f%d" % number
        if number < of_due:
            triggers = [timer("t%d-%d" % (turn, each), cron) for turn, cron in enumerate(together) for each in range(OF_A_FUNCTION)]
        else:
            spread = [number * OF_A_FUNCTION + each for each in range(OF_A_FUNCTION)]
            triggers = [timer("t%d" % each, "%d %d %d %d %d * *" % (at % 60, at // 60 % 60, at // 3600 % 24, later.tm_mday, later.tm_mon))
                        for each, at in enumerate(spread)]
        record.update(key=dict(place, name=name), id="lam-%08d" % number, code=code, triggers=triggers)
        return "function/%(account)d/%(namespace)s/" % place + name, json.dumps(stored, separators=(",", ":")).encode()

    # Each round uses timers of its own, so there are fewer others.
    count = functions - of_due * (rounds - 1)
    store = sqlite3.connect(path)
    with store:
        store.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, 1)", (row(number) for number in range(count)))
    store.close()
    return first


def gauge(virga, name):
    return sum(float(line.split()[1]) for line in metrics(virga).splitlines() if line.startswith(name + " "))


def buckets(virga):
    """Returns the number of events within each lateness bound of the histogram."""
    lines = [line[len(HEADER + "bucket{le=\""):] for line in metrics(virga).splitlines() if line.startswith(HEADER + "bucket")]
    return {line.split('"')[0]: int(line.split()[1]) for line in lines}


def within(late, share):
    """Returns the smallest bound that contains a fraction of the events (ms)."""
    enough = [bound for bound, count in late.items() if count >= late["+Inf"] * share]
    return round(float(enough[0]) * 1000, 1)
