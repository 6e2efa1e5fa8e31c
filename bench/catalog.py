"""A catalog of 10,000 functions: start-up, memory, lists, and its cost per warm call."""

import time

from harness import EVENT, Virga, check, resident, spread

FUNCTIONS = 10_000


def measure(options):
    count = 200 if options.quick else FUNCTIONS
    calls = 50 if options.quick else 2000
    with Virga(options, []) as empty, Virga(options, []) as full:
        begun = time.perf_counter()
        for number in range(count):
            full.create("f%d" % number)
        created = time.perf_counter() - begun
        ready = full.restart()
        kb = resident(full)
        empty.create("warm")
        full.create("warm")
        # Alternate, so that noise affects both equally.
        samples = {"empty": [], "full": []}
        for turn in range(calls):
            for name, server in (("empty", empty), ("full", full)):
                signed = server.client.signed("Invoke", {"FunctionName": "warm", "ClientContext": EVENT})
                begun = time.perf_counter()
                answer = server.client.send(*signed)
                if turn >= calls // 10:
                    samples[name].append((time.perf_counter() - begun) * 1000)
                check(b'\\"hello\\": \\"world\\"' in answer, answer)
        # Last, because virga keeps preparing sandboxes in the background for a while after its start.
        lists = []
        for turn in range(calls // 10):
            request = {"Limit": 20, "Offset": turn * 37 % count, "SearchKey": "" if turn % 2 else "7"}
            signed = full.client.signed("ListFunctions", request)
            begun = time.perf_counter()
            answer = full.client.send(*signed)
            lists.append((time.perf_counter() - begun) * 1000)
            check(b'"TotalCount":' in answer, answer)
        warm = {name: spread(values) for name, values in samples.items()}
        return {
            "functions": count,
            "created_per_second": round(count / created, 1),
            "ready_s": round(ready, 3),
            "resident_mb": round(kb / 1024, 1),
            "list_ms": spread(lists),
            "warm": warm,
            "times": round(warm["full"]["p50_ms"] / warm["empty"]["p50_ms"], 3),
        }

