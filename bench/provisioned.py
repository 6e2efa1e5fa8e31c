"""First call of a provisioned instance, alternating with a cold start."""

import time

from harness import EVENT, Virga, check, spread


def measure(options):
    count = 5 if options.quick else 60
    samples = {"cold": [], "provisioned": []}
    with Virga(options, []) as server:
        for number in range(count):
            server.create("cold%d" % number)
            server.create("ahead%d" % number)
            version = {"FunctionName": "ahead%d" % number, "Qualifier": "1"}
            server.client.call("PublishVersion", {"FunctionName": version["FunctionName"]})
            server.client.call("PutProvisionedConcurrencyConfig", dict(version, VersionProvisionedConcurrencyNum=1))
        for number in range(count):
            until_done(server, "ahead%d" % number)
        time.sleep(1)  # Long enough for the provisioned instances to be frozen, as in production between requests.
        for number in range(count):
            for kind, name, more in (("cold", "cold%d", {}), ("provisioned", "ahead%d", {"Qualifier": "1"})):
                request = server.client.signed("Invoke", dict(more, FunctionName=name % number, ClientContext=EVENT))
                begun = time.perf_counter()
                answer = server.client.send(*request)
                samples[kind].append((time.perf_counter() - begun) * 1000)
                check(b'\\"hello\\": \\"world\\"' in answer, answer)
                time.sleep(0.02)
    result = {kind: spread(values) for kind, values in samples.items()}
    result["share"] = round(result["provisioned"]["p50_ms"] / result["cold"]["p50_ms"], 2)
    return result


def until_done(server, name):
    for _ in range(600):
        shown = server.client.call("GetProvisionedConcurrencyConfig", {"FunctionName": name})["Allocated"][0]
        if shown["Status"] == "Done":
            return
        time.sleep(0.1)
    check(False, shown)
