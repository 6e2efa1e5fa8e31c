"""All performance claims of virga, measured beside its peers in one run. See README.md in this directory.

    run.py --virga BINARY --baseline BINARY --venv DIR --out FILE [--quick]
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import breakdown
import buckets
import catalog
import cos
import events
import isolation
import provisioned
import timers
import web
from harness import EVENT, PEERS, Load, Virga, check, pss, served, spread


def main():
    parser = argparse.ArgumentParser()
    for name in ("virga", "baseline", "venv", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--quick", action="store_true", help="few rounds, to check that the benchmarks run; the figures mean nothing")
    options = parser.parse_args()
    bench = Bench(options)
    results = {
        "machine": machine(),
        "cold": bench.cold(),
        "warm": bench.warm(),
        "cold_per_second": bench.cold_per_second(),
        "idle_pss_kb": bench.idle_memory(),
        "create_to_answer_ms": bench.create_to_answer(),
        "isolation": isolation.measure(options),
        "shares": breakdown.measure(options),
        "catalog": catalog.measure(options),
        "ahead": provisioned.measure(options),
        "timers": timers.measure(options),
        "web": web.measure(options),
        "events": events.measure(options),
        "buckets": buckets.measure(options),
        "cos": cos.measure(options),
    }
    results["targets"] = targets(results)
    with open(options.out, "w") as file:
        json.dump(results, file, indent=2)
    show(results)


def machine():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(),
        "model": model[0] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


class Bench:
    def __init__(self, options):
        self.options = options
        self.rounds = 5 if options.quick else 100
        self.turns = 1 if options.quick else 7

    # --- cold starts

    def cold(self):
        """Request to response without an instance, alternating with the peers, so that noise affects all equally."""
        program = sys.executable if sys.executable.startswith("/usr") else shutil.which("python3", path="/usr/bin")
        program = os.path.realpath(program)
        code = "import json,sys; sys.path.insert(0,%r); from handler import main_handler as m; print(json.dumps(m(json.loads(%r),None)))"
        code = code % ("/code", EVENT)
        peers = {}
        if shutil.which("bwrap"):
            binds = [["--symlink", os.readlink("/" + d), "/" + d] if os.path.islink("/" + d) else ["--ro-bind", "/" + d, "/" + d]
                     for d in ("lib", "lib64", "bin") if os.path.exists("/" + d)]
            command = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--ro-bind", PEERS, "/code", "--proc", "/proc",
                       "--tmpfs", "/tmp"] + sum(binds, [])
            peers["bwrap + python"] = command + [program, "-I", "-c", code]
        with contextlib.ExitStack() as stack:
            if shutil.which("runc"):
                bundle = stack.enter_context(runc_bundle([program, "-I", "-c", code]))
                peers["runc + python"] = ["runc", "run", "--bundle", bundle]
            server = stack.enter_context(Virga(self.options, ["--keep-alive", "1"]))
            samples = {"virga": []}
            samples.update({name: [] for name in peers})
            server.deploy(self.rounds + 5)
            for round in range(self.rounds + 5):
                request = server.client.signed("Invoke", {"FunctionName": "f%d" % round, "ClientContext": EVENT})
                begun = time.perf_counter()
                answer = server.client.send(*request)
                took = time.perf_counter() - begun
                check(b'\\"hello\\": \\"world\\"' in answer, answer)
                if round >= 5:
                    samples["virga"].append(took * 1000)
                if round % (1 if self.options.quick else 3) == 0:
                    for number, (name, command) in enumerate(peers.items()):
                        extra = ["bench-%d-%d" % (os.getpid(), round)] if name.startswith("runc") else []
                        begun = time.perf_counter()
                        output = subprocess.run(command + extra, stdout=subprocess.PIPE, check=True).stdout
                        samples[name].append((time.perf_counter() - begun) * 1000)
                        check(b'"hello": "world"' in output, output)
                # Wait until the used sandbox was replaced, as in production between requests.
                time.sleep(0.02)
        return {name: spread(values) for name, values in samples.items()}

    def cold_per_second(self):
        """Rate of cold starts from as many callers as there are CPUs, alone and beside idle instances."""
        count, idle, more = (20, 20, 10) if self.options.quick else (400, 1000, 200)
        callers = os.cpu_count()
        with Virga(self.options, ["--keep-alive", "1"]) as server:
            server.deploy(count)
            alone = server.call_each(range(count), callers)
        with Virga(self.options, ["--keep-alive", "900"]) as server:
            server.deploy(idle + more)
            server.call_each(range(idle), callers)
            time.sleep(1 if self.options.quick else 8)  # Wait until the pool has shrunk to its normal size again.
            beside = server.call_each(range(idle, idle + more), callers)
        return {
            "starts": count,
            "callers": callers,
            "per_second": alone,
            "beside": {"instances": idle, "starts": more, "per_second": beside},
        }

    def create_to_answer(self):
        """Time from the CreateFunction request to the first response of the function."""
        samples = []
        with Virga(self.options, []) as server:
            for round in range(5 if self.options.quick else 40):
                name = "new%d" % round
                begun = time.perf_counter()
                server.create(name)
                answer = server.client.call("Invoke", {"FunctionName": name, "ClientContext": EVENT})
                samples.append((time.perf_counter() - begun) * 1000)
                check(answer["Result"]["InvokeResult"] == 0, answer)
        return spread(samples[1:])

    # --- warm calls

    def warm(self):
        """Runs all servers at once and loads them in turn, so that the varying speed of the machine affects all equally."""
        venv = os.path.join(self.options.venv, "bin")
        peers = {
            "axum, plain (baseline)": ([self.options.baseline], None),
            "uvicorn, plain, 1 worker": (
                [venv + "/uvicorn", "handler:application", "--port", "{port}", "--log-level", "error", "--workers", "1"], PEERS),
            "functions-framework, gunicorn 2x8": (
                [venv + "/gunicorn", "-w", "2", "--threads", "8", "-b", "127.0.0.1:{port}", "--log-level", "error",
                 "functions_framework:create_app('framework', 'handler.py')"], PEERS),
        }
        plain = {"Content-Type": "application/json"}
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Virga(self.options, []))
            server.create("warm")
            server.create("url", open(PEERS + "/handler.py").read().replace("answer(event)\n\n\ndef framework", "answer(json.loads(event['body']))\n\n\ndef framework"))
            signed = server.client.signed("Invoke", {"FunctionName": "warm", "ClientContext": EVENT})
            loads = {
                "virga (signed API)": Load(server.address, *signed, '\\"hello\\": \\"world\\"'),
                "virga (function URL)": Load(server.address + server.url("url"), plain, EVENT, '"hello": "world"'),
            }
            for name, (command, directory) in peers.items():
                address = stack.enter_context(served(command, directory))
                loads[name] = Load(address, plain, EVENT, "hello")
            results = {name: {} for name in loads}
            for connections in (1, 16, 64):
                rounds = {name: [] for name in loads}
                for load in loads.values():
                    load.checked(connections, 1)  # Warm-up.
                for _ in range(self.turns):
                    for name, load in loads.items():
                        rounds[name].append(load.run(connections, 1))
                for name, found in rounds.items():
                    results[name][str(connections)] = medians(found)
            return results

    # --- memory

    def idle_memory(self):
        """Returns the PSS that each idle instance adds (kB)."""
        result = {}
        for count in [10] if self.options.quick else [100, 500]:
            with Virga(self.options, ["--keep-alive", "900"]) as server:
                before = server.idle(count)
                result[str(count)] = round((pss(server) - before) / count)
        return result


def medians(rows):
    """Returns the medians over several rounds of `wrk`."""
    rows = [{"per_second": row["requests"] / row["us"] * 1e6, "p50_us": row["p50_us"], "p99_us": row["p99_us"]} for row in rows]
    return {key: round(statistics.median(row[key] for row in rows)) for key in rows[0]}


@contextlib.contextmanager
def runc_bundle(arguments):
    """Creates a runc bundle with the host's /usr and the handler."""
    directory = tempfile.mkdtemp()
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    path = directory + "/config.json"
    config = json.load(open(path))
    root = directory + "/rootfs"
    os.mkdir(root)
    for name in ("usr", "code", "proc", "dev", "sys", "tmp", "lib", "lib64", "bin"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), root + "/" + name)
        else:
            os.mkdir(root + "/" + name)
    config["process"].update(terminal=False, args=arguments)
    config["root"] = {"path": "rootfs", "readonly": True}
    for source, target in (("/usr", "/usr"), (PEERS, "/code")):
        config["mounts"].append({"destination": target, "source": source, "type": "bind", "options": ["rbind", "ro"]})
    json.dump(config, open(path, "w"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def targets(results):
    cold, warm, apart = results["cold"], results["warm"], results["isolation"]
    virga = cold["virga"]
    rows = [("cold start p50, ms", virga["p50_ms"], "<=", 2.5), ("cold start p99, ms", virga["p99_ms"], "<=", 8)]
    if "bwrap + python" in cold:
        rows.append(("cold start, share of bwrap + python", round(virga["p50_ms"] / cold["bwrap + python"]["p50_ms"], 3), "<=", 0.2))
    def times(name, connections):
        peer = warm["functions-framework, gunicorn 2x8"][connections]["per_second"]
        return round(warm[name][connections]["per_second"] / peer, 2)

    rows.append(("warm calls at 16 connections, times functions-framework", times("virga (signed API)", "16"), ">=", 2))
    for connections in ("16", "64"):
        what = "function URL at %s connections, times functions-framework" % connections
        rows.append((what, times("virga (function URL)", connections), ">=", 3))
    rows.append(("latency added to a web function, p50, ms", results["web"]["added_ms"], "<=", 0.3))
    rows.append(("cold starts/s, sustained", results["cold_per_second"]["per_second"], ">=", 300))
    last = list(results["idle_pss_kb"])[-1]
    rows.append(("idle instance of %s, MB of PSS" % last, round(results["idle_pss_kb"][last] / 1024, 2), "<=", 2.2))
    rows.append(("%d idle instances, %% of a CPU" % apart["idle"]["instances"], apart["idle"]["percent"], "<=", 1))
    rows.append(("freeze and thaw, ms", apart["freeze_and_thaw"]["p50_ms"], "<=", 0.3))
    near = apart["neighbour"]
    rows.append(("p99 beside the worst of six hostile functions, times its quiet p99", max(near["times_by_kind"].values()), "<=", 2))
    rows.append(("p99 beside all six hostile functions, times its quiet p99", near["times"], "<=", 2))
    rows.append(("first call of a provisioned instance, share of a cold one", results["ahead"]["share"], "<=", 0.8))
    many = results["catalog"]
    rows.append(("start with %d functions, s" % many["functions"], many["ready_s"], "<=", 3))
    rows.append(("memory with %d functions, MB" % many["functions"], many["resident_mb"], "<=", 200))
    rows.append(("ListFunctions among %d, p99, ms" % many["functions"], many["list_ms"]["p99_ms"], "<=", 10))
    rows.append(("warm call among %d functions, times that of one" % many["functions"], many["times"], "<=", 1.1))
    timed = results["timers"]
    rows.append(("%d idle timers, %% of a CPU" % timed["timers"], timed["idle_percent"], "<=", 1))
    rows.append(("%d timers due in one second, p99 lateness below, ms" % timed["due"], timed["late_ms"]["p99"], "<=", 50))
    for part in (events, buckets, cos):
        rows += part.targets(results[part.__name__])
    return [
        {"what": what, "is": value, "wanted": "%s %s" % (sign, bound), "met": value >= bound if sign == ">=" else value <= bound}
        for what, value, sign, bound in rows
    ]


def show(results):
    print("\ncold start, request to response        n     p50 ms     p99 ms")
    for name, row in results["cold"].items():
        print("  %-34s %4d %10.2f %10.2f" % (name, row["n"], row["p50_ms"], row["p99_ms"]))
    print("\nwarm calls/s (p50 us)                   1 connection         16             64")
    for name, row in results["warm"].items():
        cells = ["%8d (%6d)" % (row[c]["per_second"], row[c]["p50_us"]) for c in ("1", "16", "64")]
        print("  %-34s %s" % (name, " ".join(cells)))
    rate = results["cold_per_second"]
    bare = results["isolation"]["fork_and_import"]
    print("\ncold starts/s, sustained: %.0f (%d starts, %d callers)" % (rate["per_second"], rate["starts"], rate["callers"]))
    beside = rate["beside"]
    print("  beside %d idle instances: %.0f (%d starts)" % (beside["instances"], beside["per_second"], beside["starts"]))
    print("  plain fork of the same interpreter, import, call, exit: %.0f/s; p50 %.2f ms, p99 %.2f ms until it has called" %
          (bare["per_second"], bare["p50_ms"], bare["p99_ms"]))
    for count, size in results["idle_pss_kb"].items():
        print("memory of an idle instance, of %s: %d kB PSS (plain fork: %d kB)" % (count, size, bare["pss_kb"]))
    apart = results["isolation"]
    print("%d idle instances: %.2f %% of a CPU" % (apart["idle"]["instances"], apart["idle"]["percent"]))
    freezes = apart["freeze_and_thaw"]
    print("freeze and thaw: p50 %.3f ms, p99 %.3f ms (a sleep process: p50 %.3f ms)" % (freezes["p50_ms"], freezes["p99_ms"], freezes["bare_p50_ms"]))
    near = apart["neighbour"]
    print("p99 of a small function: quiet %.2f ms, beside hostile functions %.2f ms; p50 %.2f and %.2f ms" %
          (near["quiet"]["p99_ms"], near["loud"]["p99_ms"], near["quiet"]["p50_ms"], near["loud"]["p50_ms"]))
    print("  times its quiet p99, beside a single one: %s" % ", ".join("%s %.1f" % row for row in near["times_by_kind"].items()))
    print("  virga's own /healthz at the same time, p99: quiet %.2f ms, beside hostile functions %.2f ms" %
          (near["virga_quiet"]["p99_ms"], near["virga_loud"]["p99_ms"]))
    print("  1 ms of undisturbed work on all CPUs: p50 %.2f ms, p99 %.2f ms" %
          (near["machine"]["p50_ms"], near["machine"]["p99_ms"]))
    breakdown.show(results["shares"])
    made = results["create_to_answer_ms"]
    print("CreateFunction to first response: p50 %.1f ms, p99 %.1f ms (n=%d)" % (made["p50_ms"], made["p99_ms"], made["n"]))
    first = results["ahead"]
    print("first call of an instance: cold p50 %.2f ms, p99 %.2f ms; provisioned p50 %.2f ms, p99 %.2f ms" %
          (first["cold"]["p50_ms"], first["cold"]["p99_ms"], first["provisioned"]["p50_ms"], first["provisioned"]["p99_ms"]))
    many = results["catalog"]
    print("%d functions: created %.0f/s; ready in %.2f s, %.0f MB resident; ListFunctions p50 %.2f ms, p99 %.2f ms" %
          (many["functions"], many["created_per_second"], many["ready_s"], many["resident_mb"], many["list_ms"]["p50_ms"], many["list_ms"]["p99_ms"]))
    print("  warm call: p50 %.3f ms, against %.3f ms as the only function" %
          (many["warm"]["full"]["p50_ms"], many["warm"]["empty"]["p50_ms"]))
    timed = results["timers"]
    print("%d timers: ready in %.2f s, %.0f MB resident, idle %.2f %% of a CPU; lateness of %d due in one second below %g ms (p50) and %g ms (p99)" %
          (timed["timers"], timed["ready_s"], timed["resident_mb"], timed["idle_percent"], timed["due"], timed["late_ms"]["p50"], timed["late_ms"]["p99"]))
    served_by = results["web"]
    print("web server: stand-alone p50 %.3f ms, p99 %.3f ms; as a web function p50 %.3f ms, p99 %.3f ms" %
          (served_by["direct"]["p50_ms"], served_by["direct"]["p99_ms"], served_by["web function"]["p50_ms"], served_by["web function"]["p99_ms"]))
    for part in (events, buckets, cos):
        part.show(results[part.__name__])
    print()
    for row in results["targets"]:
        print("  %-68s %8s  target %-7s %s" % (row["what"], row["is"], row["wanted"], "met" if row["met"] else "MISSED"))


main()
