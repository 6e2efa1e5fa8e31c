"""File transfer tools, configured with only the endpoint and the keys: the AWS command line, rclone, and COS's Node.js SDK."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import requests

from bucket_clients import ACCOUNT, REGION

HERE = os.path.dirname(os.path.abspath(__file__))
MB = 1 << 20


def tree(directory):
    """The names below a directory."""
    found = {}
    for place, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, directory)] = open(path, "rb").read()
    return found


@pytest.fixture
def files(tmp_path):
    """A directory with names and sizes of several kinds; the largest goes up in parts."""
    content = {"a.txt": b"rain", "empty": b"", "sub/b c+&=.txt": b"drop by drop", "sub/deep/雨.txt": b"yu",
               "big": bytes(range(256)) * (6 * MB // 256) + b"end"}
    for name, body in content.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    assert tree(tmp_path / "files") == content
    return tmp_path / "files"


def run(command, environment, check=True, **more):
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **more)
    assert done.returncode == 0 or not check, (command, done.stdout, done.stderr)
    return done


# The AWS command line.


@pytest.fixture
def aws(server, tmp_path):
    """Runs `aws` with this server as its endpoint."""
    config = tmp_path / "aws-config"
    config.write_text("[default]\nregion = %s\ns3 =\n  multipart_threshold = 5MB\n  multipart_chunksize = 5MB\n" % REGION)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_CONFIG_FILE": str(config), "LANG": "C.UTF-8",
                   "AWS_ENDPOINT_URL": "http://" + server.buckets, "AWS_ACCESS_KEY_ID": server.secret_id,
                   "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    program = os.path.join(os.path.dirname(sys.executable), "aws")

    def aws(*arguments, check=True, **more):
        done = run([sys.executable, program] + [str(one) for one in arguments], environment, check, **more)
        return done.stdout.decode() if check else done

    return aws


def test_the_aws_command_line_moves_files(aws, files, tmp_path):
    assert aws("s3", "mb", "s3://aws") == "make_bucket: aws\n"
    assert "aws" in [line.split()[-1] for line in aws("s3", "ls").splitlines()]
    aws("s3", "cp", files, "s3://aws/up", "--recursive", "--only-show-errors")
    listed = [line.split(None, 3)[2:] for line in aws("s3", "ls", "s3://aws", "--recursive").splitlines()]
    assert sorted(listed) == sorted([str(len(body)), "up/" + name] for name, body in tree(files).items())
    assert aws("s3", "ls", "s3://aws/up/sub/").split() == ["PRE", "deep/"] + aws("s3", "ls", "s3://aws/up/sub/b").split()
    # There and back again, and nothing is moved where nothing changed.
    aws("s3", "sync", "s3://aws/up", tmp_path / "down", "--only-show-errors")
    assert tree(tmp_path / "down") == tree(files)
    assert aws("s3", "sync", tmp_path / "down", "s3://aws/up", "--size-only") == ""
    os.unlink(tmp_path / "down" / "a.txt")
    (tmp_path / "down" / "new").write_bytes(b"new")
    aws("s3", "sync", tmp_path / "down", "s3://aws/up", "--delete", "--size-only", "--only-show-errors")
    # Within a bucket, in parts where it is large, and from one to another.
    aws("s3", "cp", "s3://aws/up/big", "s3://aws/copy", "--only-show-errors")
    aws("s3", "mv", "s3://aws/up/new", "s3://aws/moved", "--only-show-errors")
    aws("s3", "mb", "s3://aws-other")
    aws("s3", "sync", "s3://aws/up", "s3://aws-other", "--only-show-errors")
    aws("s3", "cp", "s3://aws-other", tmp_path / "again", "--recursive", "--only-show-errors")
    assert tree(tmp_path / "again") == {name: body for name, body in tree(tmp_path / "down").items() if name != "new"}
    head = json.loads(aws("s3api", "head-object", "--bucket", "aws", "--key", "copy"))
    assert head["ContentLength"] == 6 * MB + 3 and head["ETag"].endswith('-2"')
    assert aws("s3", "cp", "s3://aws/moved", "-") == "new"
    aws("s3", "cp", "-", "s3://aws/piped", input=b"through a pipe")
    assert aws("s3", "cp", "s3://aws/piped", "-") == "through a pipe"
    url = aws("s3", "presign", "s3://aws/piped", "--expires-in", "60").strip()
    assert requests.get(url).content == b"through a pipe"
    aws("s3", "rm", "s3://aws/up", "--recursive", "--only-show-errors")
    assert sorted(line.split()[-1] for line in aws("s3", "ls", "s3://aws", "--recursive").splitlines()) == ["copy", "moved", "piped"]
    refused = aws("s3", "rb", "s3://aws", check=False)
    assert refused.returncode == 1 and b"BucketNotEmpty" in refused.stderr
    for bucket in ("aws", "aws-other"):
        aws("s3", "rb", "s3://" + bucket, "--force")
    assert "aws" not in aws("s3", "ls")


def test_the_aws_command_line_asks_for_each_thing(aws, files, tmp_path):
    def api(action, **fields):
        words = [word for name, value in fields.items() for word in ["--" + name.replace("_", "-")] + ([] if value is True else [value])]
        out = aws("s3api", action, "--bucket", "aws-api", *words)
        return json.loads(out) if out.strip() else {}

    aws("s3api", "create-bucket", "--bucket", "aws-api", "--create-bucket-configuration", "LocationConstraint=" + REGION)
    assert api("get-bucket-location")["LocationConstraint"] == REGION
    put = api("put-object", key="k", body=files / "a.txt", metadata="colour=blue", content_type="text/x-rain", tagging="a=1",
              checksum_algorithm="SHA256")
    assert put["ETag"] == '"%s"' % hashlib.md5(b"rain").hexdigest() and put["ChecksumSHA256"]
    head = api("head-object", key="k", checksum_mode="ENABLED")
    assert (head["Metadata"], head["ContentType"], head["ChecksumSHA256"]) == ({"colour": "blue"}, "text/x-rain", put["ChecksumSHA256"])
    assert api("get-object-tagging", key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    api("copy-object", key="copy", copy_source="aws-api/k", metadata_directive="REPLACE", metadata="colour=red")
    assert api("head-object", key="copy")["Metadata"] == {"colour": "red"}
    got = aws("s3api", "get-object", "--bucket", "aws-api", "--key", "k", "--range", "bytes=1-2", tmp_path / "part")
    assert json.loads(got)["ContentRange"] == "bytes 1-2/4" and (tmp_path / "part").read_bytes() == b"ai"
    upload = api("create-multipart-upload", key="parts")["UploadId"]
    etag = api("upload-part", key="parts", upload_id=upload, part_number="1", body=files / "big")["ETag"]
    api("complete-multipart-upload", key="parts", upload_id=upload, multipart_upload="Parts=[{ETag=%s,PartNumber=1}]" % json.dumps(etag))
    assert [one["Key"] for one in api("list-objects-v2", max_items="2", page_size="1")["Contents"]] == ["copy", "k"]
    api("put-bucket-versioning", versioning_configuration="Status=Enabled")
    api("delete-object", key="k")
    listed = api("list-object-versions", prefix="k")
    assert len(listed["Versions"]) == len(listed["DeleteMarkers"]) == 1
    objects = [{"Key": "k", "VersionId": listed["DeleteMarkers"][0]["VersionId"]}]
    assert api("delete-objects", delete=json.dumps({"Objects": objects}))["Deleted"][0]["DeleteMarker"] is True
    api("put-object-acl", key="k", acl="public-read")
    assert len(api("get-object-acl", key="k")["Grants"]) == 2


# rclone.


@pytest.fixture(params=["TencentCOS", "Other"])
def rclone(server, request, tmp_path):
    """Runs rclone with this server as its remote `v:`, and says which bucket is its own."""
    remote = {"TYPE": "s3", "PROVIDER": request.param, "ACCESS_KEY_ID": server.secret_id, "SECRET_ACCESS_KEY": server.secret_key,
              "CHUNK_SIZE": "5M", "UPLOAD_CUTOFF": "5M", "COPY_CUTOFF": "5M"}
    environment = {}
    if request.param == "Other":
        remote.update(ENDPOINT="http://" + server.buckets, REGION=REGION)
        bucket = "rclone"
    else:
        # It puts the bucket into the host's name, always; as no resolver knows that, the server is its proxy.
        remote.update(ENDPOINT="http://cos.%s.myqcloud.com" % REGION)
        environment["HTTP_PROXY"] = "http://" + server.buckets
        bucket = "rclone-" + ACCOUNT
    environment.update({"RCLONE_CONFIG_V_" + name: value for name, value in remote.items()})
    environment.update(PATH=os.environ["PATH"], HOME=str(tmp_path), RCLONE_CONFIG=str(tmp_path / "none"), RCLONE_RETRIES="1", RCLONE_LOW_LEVEL_RETRIES="1")

    def rclone(*arguments, check=True, **more):
        done = run(["rclone"] + [str(one) for one in arguments], environment, check, **more)
        return done.stdout.decode() if check else done

    rclone.bucket = "v:" + bucket
    rclone.proxies = {"http": environment.get("HTTP_PROXY")}
    return rclone


def test_rclone_moves_files(rclone, files, tmp_path):
    there = rclone.bucket
    rclone("mkdir", there)
    assert there[2:] in [line.split()[-1] for line in rclone("lsd", "v:").splitlines()]
    rclone("copy", files, there + "/up")
    rclone("check", files, there + "/up")
    rclone("check", files, there + "/up", "--download")
    listed = {one["Path"]: one for one in json.loads(rclone("lsjson", "-R", "--hash", there + "/up"))}
    assert {name for name, one in listed.items() if not one["IsDir"]} == set(tree(files))
    assert listed["a.txt"]["Hashes"]["md5"] == hashlib.md5(b"rain").hexdigest() and listed["big"]["Size"] == 6 * MB + 3
    # The time of each file is kept, so that a second run moves nothing.
    assert b"There was nothing to transfer" in rclone("copy", files, there + "/up", "-v", check=False).stderr
    assert rclone("cat", there + "/up/sub/deep/雨.txt") == "yu"
    assert rclone("cat", "--offset", "1", "--count", "2", there + "/up/a.txt") == "ai"
    assert rclone("rcat", there + "/up/piped", input=b"through a pipe") == ""
    rclone("copy", there + "/up", tmp_path / "down")
    assert tree(tmp_path / "down") == dict(tree(files), piped=b"through a pipe")
    os.unlink(tmp_path / "down" / "a.txt")
    rclone("sync", tmp_path / "down", there + "/up")
    rclone("check", tmp_path / "down", there + "/up")
    # Within the server, the large one in parts.
    rclone("copy", there + "/up", there + "/copy")
    rclone("moveto", there + "/copy/piped", there + "/copy/moved")
    rclone("move", there + "/copy", tmp_path / "moved")
    assert (tmp_path / "moved" / "moved").read_bytes() == b"through a pipe" and (tmp_path / "moved" / "big").exists()
    assert json.loads(rclone("lsjson", "-R", "--files-only", there + "/copy", check=False).stdout or "[]") == []
    assert json.loads(rclone("size", "--json", there))["count"] == 5
    rclone("touch", there + "/touched")
    rclone("deletefile", there + "/touched")
    rclone("delete", there + "/up", "--include", "*.txt")
    assert sorted(rclone("lsf", "-R", "--files-only", there).split()) == ["up/big", "up/empty", "up/piped"]
    link = rclone("link", "--expire", "1m", there + "/up/piped").strip()
    assert requests.get(link, proxies=rclone.proxies).content == b"through a pipe"
    assert rclone("rmdir", there, check=False).returncode != 0
    rclone("purge", there)
    assert there[2:] not in rclone("lsd", "v:")


# COS's own SDK for Node.js.


def test_cos_s_node_sdk(server):
    environment = dict(server.environment(), NODE_PATH=os.environ["NODE_MODULES"], BUCKETS=server.buckets)
    done = run(["node", "--no-deprecation", os.path.join(HERE, "node", "cos.js")], environment, check=False)
    assert done.returncode == 0 and done.stdout.decode().endswith("all is well\n"), (done.stdout + done.stderr).decode()
