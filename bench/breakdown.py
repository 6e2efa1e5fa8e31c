"""Breakdown of an instance's cold start time and memory, to find out what limits a figure."""

import json
import re
import subprocess

from harness import EVENT, Virga, check, metrics, plain_fork, processor_times, tree

PHASE = re.compile(r'^virga_cold_start_duration_seconds_(sum|count)\{.*part="(\w+)".*\} (\S+)$', re.M)


def measure(options):
    return {"cold": cold(options), "idle": idle(options)}


def cold(options):
    """Phases of a cold start by virga's own clock, and its CPU time including the cleanup afterwards."""
    count = 10 if options.quick else 200
    with Virga(options, ["--keep-alive", "1"]) as server:
        server.deploy(count)
        before = processor_ms(server)
        for number in range(count):
            answer = server.client.call("Invoke", {"FunctionName": "f%d" % number, "ClientContext": EVENT})
            check(answer["Result"]["InvokeResult"] == 0, answer)
        used = [(after - before) / count for after, before in zip(processor_ms(server), before)]
        totals = {(phase, kind): float(value) for kind, phase, value in PHASE.findall(metrics(server))}
    phases = {phase: totals[phase, "sum"] / totals[phase, "count"] * 1000 for phase, kind in totals if kind == "sum"}
    check("total" in phases, "virga reports no phases of cold starts")
    return {
        "starts": count,
        "mean_ms": {phase: round(value, 2) for phase, value in phases.items()},
        "user_ms": round(used[0], 2),
        "system_ms": round(used[1], 2),
    }


def processor_ms(server):
    """User and system CPU time of a server and its descendants, including those that have exited."""
    user, system, user_ended, system_ended = processor_times(server)
    return [(user + user_ended) * 1000, (system + system_ended) * 1000]


def idle(options):
    """Memory of an idle instance by kind, compared to the plain fork (kB)."""
    count = 10 if options.quick else 200
    with Virga(options, ["--keep-alive", "900"]) as server:
        server.idle(count)
        sums, found = {}, 0
        for process in tree(server)[1:]:
            try:
                # Skip zygotes, which are in no instance's cgroup.
                if "/%s/" % server.cgroup not in open("/proc/%d/cgroup" % process).read():
                    continue
                lines = open("/proc/%d/smaps_rollup" % process).read()
            except OSError:
                continue
            found += 1
            for kind, size in kinds(lines).items():
                sums[kind] = sums.get(kind, 0) + size
    check(found >= count, "%d processes for %d instances" % (found, count))
    bare = json.loads(subprocess.run(plain_fork(20), stdout=subprocess.PIPE, check=True).stdout)
    return {"instances": count, "processes": found, "kb": {kind: round(size / count) for kind, size in sums.items()},
            "bare_kb": kinds(bare["rollup"])}


def kinds(rollup):
    """Splits the PSS of a process into private memory, memory shared with its zygote, and files."""
    size = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", rollup, re.M)}
    own = size["Private_Dirty"]
    return {"own": own, "shared anonymous": max(0, size["Pss_Anon"] + size["Pss_Shmem"] - own), "files": size["Pss_File"]}


def show(results):
    cold, idle = results["cold"], results["idle"]
    phases = ", ".join("%s %.2f" % row for row in cold["mean_ms"].items())
    print("cold start by virga's own clock, mean of %d, ms: %s; CPU time, ms: %.1f user, %.1f system" %
          (cold["starts"], phases, cold["user_ms"], cold["system_ms"]))
    parts = ", ".join("%s %d (%d)" % (kind, size, idle["bare_kb"][kind]) for kind, size in idle["kb"].items())
    print("memory of an idle instance by kind, kB of PSS (plain fork): %s" % parts)
