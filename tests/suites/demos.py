"""Deploys Tencent's demo functions and invokes each with the event of its trigger, for run.py.

What a demo asks its user to fill in is filled in: the keys, the AppId, the region and the buckets. Nothing else is changed. A demo passes if its
invocation succeeds and its answer is not the word for failure that demos use.
"""

import base64
import gzip
import io
import json
import os
import re
import zipfile

REGION, APP_ID = "ap-guangzhou", "1250000000"
SOURCE = (".py", ".js", ".sh", ".php")
# Larger packages come by a bucket in SCF, too.
PACKAGE_MAX = 40 << 20
LAYERS = ["Nodejs6.10", "Nodejs8.9", "Nodejs10.15", "Nodejs12.16", "Python2.7", "Python3.6"]
# One white point.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
VALUES = {"region": REGION, "targetbucket": "copy-" + APP_ID, "target_bucket": "copy-" + APP_ID, "bucket": "demo-" + APP_ID, "suffix": "out", "prefix": "out/"}
WORDS = "rain\t1\nsun\t1\n"
FAILURES = re.compile(r'^"?(fail(ed|ure)?|error)\b', re.I)


def settings(path):
    """A demo's config.json has comments and commas that JSON has not."""
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda found: found.group(1) or "", text)
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    return json.loads(text, strict=False)["serverless-cloud-function-application"]["functions"]


def filled(text, key_id, key):
    """Fills in what a demo's comments ask its user to replace."""
    rows = [(r"secret_?id", key_id), (r"secret_?key", key), (r"app_?id", APP_ID), (r"(?:source_|target_|cos_)?region", REGION),
            (r"(?:\w+_)?bucket(?:_?upload)?", "demo-" + APP_ID), (r"(?:source|target)_(?:bucket_)?name", "demo-" + APP_ID)]
    for name, value in rows:
        pattern = r"""(?im)(\b['"]?%s['"]?\s*[:=]\s*)(?:u?(['"]).*?\2|X{3,}|\*{3,})""" % name
        text = re.sub(pattern, lambda found: "%s'%s'" % (found.group(1), value), text)
    return text


def package(folder, key_id, key):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                within = os.path.relpath(path, folder)
                if not os.path.isfile(path):
                    continue
                with open(path, "rb") as file:
                    data = file.read()
                if os.sep not in within and name.endswith(SOURCE):
                    data = filled(data.decode("utf-8", "surrogateescape"), key_id, key).encode("utf-8", "surrogateescape")
                info = zipfile.ZipInfo(within)
                info.external_attr = 0o755 << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def event(kind, key):
    """The event of a trigger, in SCF's form; where a demo names none, one that has the fields of those that demos read."""
    kinds = events(key)
    return kinds.get(kind) or {**kinds["TIMER"], **kinds["APIGW"], **kinds["COS"], "key1": "test value 1", "key2": "test value 2"}


def events(key):
    logs = {"topic_id": "t", "topic_name": "t", "records": [{"timestamp": "1600000000000000", "content": "{\"message\": \"rain\"}"}]}
    return {
        "COS": {"Records": [{"cos": {"cosSchemaVersion": "1.0", "cosObject": {
            "url": "http://demo-%s.cos.%s.myqcloud.com/%s" % (APP_ID, REGION, key), "meta": {"x-cos-request-id": "1", "Content-Type": "image/png"},
            "vid": "", "key": "/%s/demo/%s" % (APP_ID, key), "size": 70}, "cosBucket": {"region": REGION, "name": "demo", "appid": APP_ID},
            "cosNotificationId": "unkown"}, "event": {"eventName": "cos:ObjectCreated:Put", "eventVersion": "1.0", "eventTime": 1600000000,
                                                      "eventSource": "qcs::cos", "requestParameters": {"requestSourceIP": "127.0.0.1",
                                                                                                        "requestHeaders": {"Authorization": ""}},
                                                      "eventQueue": "qcs:0:scf:%s:appid/%s:default.demo.$LATEST" % (REGION, APP_ID),
                                                      "reservedInfo": "", "reqid": 1}}]},
        "APIGW": {"requestContext": {"serviceId": "service-1", "path": "/", "httpMethod": "GET", "requestId": "1", "identity": {"secretId": "a"},
                                     "sourceIp": "127.0.0.1", "stage": "release"},
                  "headers": {"Host": "service-1.gz.apigw.tencentcs.com", "User-Agent": "demo"}, "body": "{\"message\": \"rain\"}",
                  "pathParameters": {"path": "value"}, "queryStringParameters": {"bodytext": "rain", "filename": "rain"}, "headerParameters": {},
                  "stageVariables": {"stage": "release"}, "path": "/", "queryString": {"bodytext": "rain"}, "httpMethod": "GET"},
        "CKAFKA": {"Records": [{"Ckafka": {"topic": "t", "partition": 0, "offset": 1, "msgKey": "k", "msgBody": "rain"}}]},
        "CLS": {"clslogs": {"data": base64.b64encode(gzip.compress(json.dumps(logs).encode())).decode()}},
        "CMQ": {"Records": [{"CMQ": {"type": "topic", "topicOwner": 1, "topicName": "t", "subscriptionName": "s", "publishTime": "2020-01-01T00:00:00Z",
                                     "msgId": "1", "requestId": "1", "msgBody": "{\"fromAddr\": \"a@localhost\", \"toAddr\": \"b@localhost\", \"title\": \"rain\", \"body\": \"rain\"}",
                                     "msgTag": []}}]},
        "TIMER": {"Type": "Timer", "TriggerName": "every", "Time": "2020-01-01T00:00:00Z", "Message": "rain"},
    }


def kind_of(config, folder):
    """The kind of a demo's trigger, by its configuration, or else by its name."""
    kinds = ("COS", "APIGW", "CKAFKA", "CLS", "CMQ", "TIMER")
    for text in (json.dumps(config.get("Events", "")).upper(), os.path.basename(folder).upper()):
        if any(kind in text for kind in kinds):
            return min((kind for kind in kinds if kind in text), key=text.index)
    return ""


def layer(runtime):
    return "ready-" + runtime.replace(".", "-")


def prepare(server):
    """Makes the bucket and the object that the events are about."""
    import boto3
    from botocore.client import Config
    client = boto3.client("s3", endpoint_url="http://" + server.buckets, region_name=REGION, aws_access_key_id=server.secret_id,
                          aws_secret_access_key=server.secret_key, config=Config(s3={"addressing_style": "path"}))
    for bucket in ("demo", "copy"):
        client.create_bucket(Bucket=bucket)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("words.txt", WORDS)
    for key, body in (("picture.png", base64.b64decode(PICTURE)), ("words.txt", WORDS.encode()), ("archive.zip", archive.getvalue())):
        client.put_object(Bucket="demo", Key=key, Body=body)


def object_of(folder):
    """The object that a demo's event is about."""
    name = os.path.basename(folder).lower()
    return "archive.zip" if "unzip" in name or "unpack" in name else "words.txt" if "mapreduce" in name else "picture.png"


def variables(folder):
    """What a demo reads from its environment, which its user sets."""
    found = set()
    for name in os.listdir(folder):
        if name.endswith(SOURCE):
            with open(os.path.join(folder, name), errors="replace") as file:
                found |= set(re.findall(r"""(?:getenv\(|environ(?:\.get)?[\[(])\s*['"](\w+)|process\.env\.(\w+)""", file.read()))
    names = {one or other for one, other in found} - {"PATH", "PWD", "HOME"}
    names = {name for name in names if not name.startswith(("TENCENTCLOUD_", "SCF_"))}
    value = lambda name: next((value for part, value in VALUES.items() if part in name.lower()), "rain")
    return [{"Key": name, "Value": value(name)} for name in sorted(names)]


def reason(document):
    """The exception itself, of a failure's document: last in Python's traces, first in Node.js's."""
    failure = json.loads(document)
    lines = [line for line in str(failure.get("stackTrace") or "").split("\n") if line.strip()]
    if not lines:
        return failure["errorMessage"]
    return lines[0] if any(line.startswith("    at ") for line in lines) else lines[-1]


def run(api, folder, key_id, key):
    """Deploys and invokes one demo. Gives what came of it, and why it failed."""
    try:
        config = settings(os.path.join(folder, "config.json"))
    except (OSError, ValueError, KeyError) as error:
        return "failed", "config.json: %s" % error
    packed = package(folder, key_id, key)
    if len(packed) > PACKAGE_MAX:
        return "failed", "the package has %d MB" % (len(packed) >> 20)
    runtime = config["runtime"]
    fields = {"FunctionName": "demo", "Runtime": runtime, "Handler": config.get("handler", "index.main_handler"), "Timeout": 30, "MemorySize": 256,
              "InitTimeout": 20, "Code": {"ZipFile": base64.b64encode(packed).decode()}, "Role": "suites", "Environment": {"Variables": variables(folder)}}
    if runtime in LAYERS:
        fields["Layers"] = [{"LayerName": layer(runtime), "LayerVersion": 1}]
    made = api("CreateFunction", fields)
    if "Error" in made:
        return "failed", made["Error"]["Message"]
    try:
        answered = api("Invoke", {"FunctionName": "demo", "ClientContext": json.dumps(event(kind_of(config, folder), object_of(folder)))})
        if "Error" in answered:
            return "failed", answered["Error"]["Message"]
        result = answered["Result"]
        said = result["RetMsg"] or ""
        if result["InvokeResult"] != 0:
            return "failed", reason(result["ErrMsg"] or said)
        return ("failed", "it answered %s" % said) if FAILURES.match(said) else ("passed", "")
    finally:
        api("DeleteFunction", {"FunctionName": "demo"})
