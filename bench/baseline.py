"""The plain-fork baseline: forks a preloaded interpreter that imports a handler, calls it once and exits.

    baseline.py SHIM DIRECTORY EVENT ROUNDS

It preloads the same modules as the zygotes of virga's shim.
"""

import gc
import importlib
import json
import os
import re
import sys
import time

shim, directory, event, rounds = sys.argv[1:]
for name in re.search(r'^PRELOADED = \((.*?)\)\.split', open(shim).read(), re.S | re.M).group(1).replace('"', "").split():
    try:
        importlib.import_module(name)
    except ImportError:
        pass
sys.path.insert(0, directory)
gc.collect()
gc.freeze()


def fork():
    """Forks a child that calls the handler, then waits. Returns its pid, and a descriptor whose closing lets it exit."""
    done, answered = os.pipe()
    go, hold = os.pipe()
    child = os.fork()
    if child == 0:
        handler = importlib.import_module("handler")
        answer = json.dumps(handler.main_handler(json.loads(event), None))
        os.write(answered, answer.encode())
        os.close(hold)
        os.read(go, 1)
        os._exit(0)
    os.close(answered)
    os.close(go)
    os.read(done, 1000)
    os.close(done)
    return child, hold


samples = []
begun = time.perf_counter()
for _ in range(int(rounds)):
    start = time.perf_counter()
    child, hold = fork()
    samples.append((time.perf_counter() - start) * 1000)
    os.close(hold)
    os.waitpid(child, 0)
took = time.perf_counter() - begun
held = [fork() for _ in range(50)]
rollup = open("/proc/%d/smaps_rollup" % held[0][0]).read()
sizes = [int(line.split()[1]) for child, _ in held for line in open("/proc/%d/smaps_rollup" % child) if line.startswith("Pss:")]
for child, hold in held:
    os.close(hold)
for child, _ in held:
    os.kill(child, 9)
    os.waitpid(child, 0)
print(json.dumps({"per_second": int(rounds) / took, "samples_ms": samples, "pss_kb": sum(sizes) // len(sizes), "rollup": rollup}))
