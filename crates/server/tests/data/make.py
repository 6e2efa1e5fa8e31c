#!/usr/bin/env python3
"""Makes a data directory with an earlier release, for the tests that a later release opens it.

    VIRGA=/path/to/an/earlier/virga make.py RELEASE

writes RELEASE.tar.gz beside this file. It needs root and boto3, which `.tools/clients` has. A directory has some of everything that
virga stores: `upgrade.rs` says what. Never replace an archive: it represents data on users' disks.
"""

import atexit
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile

import boto3
from botocore.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))
VIRGA = os.environ["VIRGA"]
# Nothing listens there, so dead letters for it stay undelivered.
NOWHERE = "http://127.0.0.1:9"

HELLO = """
import os, said
def main_handler(event, context):
    print("a line of the log")
    return {"version": %d, "layer": said.WORD, "variable": os.environ["WORD"]}
"""
# Fails until a variable is set.
FLAKY = """
import os
def main_handler(event, context):
    if os.environ.get("READY") != "yes":
        raise ValueError("not ready")
    return event
"""
FAILS = "def main_handler(event, context):\n    raise ValueError('on purpose')\n"
PLAIN = "def main_handler(event, context):\n    return event\n"


def package(source, name="index.py"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), source, zipfile.ZIP_DEFLATED)
    return base64.b64encode(packed.getvalue()).decode()


class Server:
    def __init__(self, data):
        command = [VIRGA, "up", "--listen", "127.0.0.1:0", "--bucket-listen", "127.0.0.1:0", "--network", "internal", "--data", data,
                   "--cgroup", "virga-make-data", "--dead-letter-endpoints", NOWHERE]
        self.data = data
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        self.address, self.buckets = line.split(" api ")[1].split()[0], line.split(" buckets ")[1].split()[0]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0

    def cli(self, *arguments, pair=None):
        environment = dict(os.environ, VIRGA_DATA=self.data, VIRGA_ENDPOINT=self.address)
        if pair:
            environment.update(VIRGA_SECRET_ID=pair[0], VIRGA_SECRET_KEY=pair[1])
        done = subprocess.run([VIRGA] + list(arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout.decode()

    def api(self, action, pair=None, **fields):
        return json.loads(self.cli("api", action, json.dumps(fields), "--json", pair=pair))

    def function(self, name, source, pair=None, namespace="default", **more):
        self.api("CreateFunction", pair, FunctionName=name, Namespace=namespace, Runtime="Python3.9", Code={"ZipFile": package(source)}, **more)
        self.wait(lambda: self.api("GetFunction", pair, FunctionName=name, Namespace=namespace)["Status"] == "Active")

    def wait(self, condition):
        for _ in range(300):
            if condition():
                return
            time.sleep(0.1)
        raise AssertionError("it did not come")

    def states(self, function):
        return sorted(event["Status"] for event in self.api("ListAsyncEvents", FunctionName=function)["EventList"])

    def s3(self, pair):
        return boto3.client("s3", endpoint_url=self.buckets, aws_access_key_id=pair[0], aws_secret_access_key=pair[1],
                            region_name="ap-guangzhou", config=Config(s3={"addressing_style": "path"}))


def functions(server):
    server.api("PublishLayerVersion", LayerName="said", CompatibleRuntimes=["Python3.9"],
               Content={"ZipFile": package("WORD = 'from the layer'\n", "python/said.py")})
    server.function("hello", HELLO % 1, Environment={"Variables": [{"Key": "WORD", "Value": "from the environment"}]},
                    Layers=[{"LayerName": "said", "LayerVersion": 1}])
    server.api("PublishVersion", FunctionName="hello")
    server.api("UpdateFunctionCode", FunctionName="hello", ZipFile=package(HELLO % 2))
    server.wait(lambda: server.api("GetFunction", FunctionName="hello")["Status"] == "Active")
    server.api("PublishVersion", FunctionName="hello")
    server.api("CreateAlias", FunctionName="hello", Name="live", FunctionVersion="2",
               RoutingConfig={"AdditionalVersionWeights": [{"Version": "1", "Weight": 0.5}]})
    server.api("CreateAlias", FunctionName="hello", Name="old", FunctionVersion="1")
    server.api("CreateTrigger", FunctionName="hello", TriggerName="nightly", Type="timer", TriggerDesc="0 0 3 1 1 * *", Enable="OPEN")
    server.api("CreateTrigger", FunctionName="hello", TriggerName="web", Type="http", TriggerDesc=json.dumps(
        {"AuthType": "NONE", "NetConfig": {"EnableIntranet": False, "EnableExtranet": True}}))
    server.api("PutReservedConcurrencyConfig", FunctionName="hello", ReservedConcurrencyMem=1280)
    server.api("PutTotalConcurrencyConfig", TotalConcurrencyMem=40960)
    server.api("CreateNamespace", Namespace="staging", Description="of the tests")
    server.function("copy", PLAIN, namespace="staging")
    for number in range(3):
        server.cli("invoke", "hello", str(number))


def events(server):
    once = {"MsgTTL": 21600, "RetryConfig": [{"RetryNum": 0}]}
    server.function("flaky", FLAKY)
    server.api("UpdateFunctionEventInvokeConfig", FunctionName="flaky", AsyncTriggerConfig={"MsgTTL": 21600, "RetryConfig": [{"RetryNum": 2}]})
    server.function("dead", FAILS)
    server.api("UpdateFunctionEventInvokeConfig", FunctionName="dead", AsyncTriggerConfig=once)
    server.function("undelivered", FAILS, DeadLetterConfig={"Type": "queue", "Name": NOWHERE + "/queue"})
    server.api("UpdateFunctionEventInvokeConfig", FunctionName="undelivered", AsyncTriggerConfig=once)
    for name in ("flaky", "dead", "undelivered"):
        server.api("Invoke", FunctionName=name, InvocationType="Event", ClientContext=json.dumps({"of": name}))
    server.wait(lambda: server.api("GetFunctionLogs", FunctionName="flaky")["TotalCount"] >= 1)
    server.wait(lambda: server.states("dead") == ["FAILED"] and server.states("undelivered") == ["FAILED"])


def objects(server, pair, bucket):
    s3 = server.s3(pair)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="small", Body=b"a few bytes", Metadata={"colour": "blue"})
    s3.put_object(Bucket=bucket, Key="large", Body=b"0123456789abcdef" * 32768)
    s3.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "large"})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in (1, 2):
        s3.put_object(Bucket=bucket, Key="versioned", Body=b"version %d" % number)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="in parts")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="in parts", UploadId=upload, PartNumber=1, Body=b"a part")


def triggered_by_bucket(server, pair, bucket):
    server.function("seen", PLAIN)
    server.api("CreateTrigger", FunctionName="seen", TriggerName=bucket + ".cos.ap-guangzhou.myqcloud.com", Type="cos",
               TriggerDesc=json.dumps({"event": "cos:ObjectCreated:*", "filter": {"Prefix": "in/", "Suffix": ""}}))
    server.s3(pair).put_object(Bucket=bucket, Key="in/first", Body=b"1")
    server.wait(lambda: server.states("seen") == ["FINISHED"])


def other_account(server):
    made = json.loads(server.cli("account", "create", "second", "--json"))
    pair = made["Key"]["SecretId"], made["Key"]["SecretKey"]
    server.function("hello", PLAIN, pair)
    server.api("PutTotalConcurrencyConfig", pair, TotalConcurrencyMem=20480)
    objects(server, pair, "photos-%d" % made["Account"]["AppId"])
    json.dump({"secret_id": pair[0], "secret_key": pair[1]}, open(os.path.join(server.data, "second.json"), "w"))


def main(release):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        data = os.path.join(directory, "data")
        server = Server(data)
        atexit.register(server.process.terminate)
        own = json.load(open(os.path.join(data, "credentials.json")))
        own = own["secret_id"], own["secret_key"]
        functions(server)
        events(server)
        objects(server, own, "photos-1250000000")
        triggered_by_bucket(server, own, "photos-1250000000")
        policy = os.path.join(directory, "policy.json")
        json.dump({"version": "2.0", "statement": [{"effect": "allow", "action": ["scf:ListFunctions"], "resource": ["*"]}]}, open(policy, "w"))
        server.cli("role", "create", "reader", "--policy", policy)
        other_account(server)
        # The ledger and the log store are written with a delay.
        server.wait(lambda: "hello" in server.cli("usage", "--json"))
        server.stop()
        archive = os.path.join(HERE, release + ".tar.gz")
        subprocess.run(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--exclude=./run", "--exclude=./lock", "--exclude=./buckets/index.reserve", "--exclude=./code/aside", "--exclude=*-shm",
                        "--exclude=*.log", "-C", data, "-czf", archive, "."], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
