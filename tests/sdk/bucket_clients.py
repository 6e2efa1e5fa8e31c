"""The official clients of COS and S3 behind one interface, so that one table of cases runs against each."""

import boto3
import requests
from botocore.client import Config
from botocore.exceptions import ClientError
from qcloud_cos import CosConfig, CosS3Client, CosServiceError

REGION = "ap-guangzhou"
ACCOUNT = "1250000000"


class Refused(Exception):
    """A client's view of an error: its status, and its code if there is a document."""

    def __init__(self, status, code):
        super().__init__(status, code)
        self.status, self.code = status, code


def cos_client(server, secret_id=None, secret_key=None, token=None, anonymous=False):
    host, port = server.buckets.split(":")
    config = CosConfig(Region=REGION, SecretId=None if anonymous else secret_id or server.secret_id,
                       SecretKey=None if anonymous else secret_key or server.secret_key, Token=token, Scheme="http", IP=host,
                       Port=int(port), ServiceDomain=server.buckets, Anonymous=anonymous)
    return CosS3Client(config, retry=0)


def s3_client(server, secret_id=None, secret_key=None, token=None, **more):
    options = dict({"addressing_style": "path"}, **more.pop("s3", {}))
    config = Config(s3=options, retries={"total_max_attempts": 1}, **more)
    return boto3.client("s3", endpoint_url="http://" + server.buckets, region_name=REGION, aws_access_key_id=secret_id or server.secret_id,
                        aws_secret_access_key=secret_key or server.secret_key, aws_session_token=token, config=config)


class Cos:
    """cos-python-sdk-v5, with nothing but the address changed."""

    name = "cos"

    def __init__(self, server, bucket):
        self.server, self.client = server, cos_client(server)
        self.bucket = "%s-%s" % (bucket, ACCOUNT)

    def call(self, method, **fields):
        try:
            return getattr(self.client, method)(**fields)
        except CosServiceError as refused:
            code = refused.get_error_code()
            raise Refused(refused.get_status_code(), None if code in ("Unknown", "NoSuchResource") else code) from None

    def on(self, method, **fields):
        return self.call(method, Bucket=self.bucket, **fields)

    def create(self):
        self.on("create_bucket")

    def delete_bucket(self):
        self.on("delete_bucket")

    def buckets(self):
        listed = self.call("list_buckets")
        found = (listed.get("Buckets") or {}).get("Bucket") or []
        return [one["Name"] for one in found]

    def head_bucket(self):
        self.on("head_bucket")

    def put(self, key, body=b"", meta=None, **fields):
        if meta:
            fields["Metadata"] = {"x-cos-meta-" + name: value for name, value in meta.items()}
        return self.on("put_object", Key=key, Body=body, **fields)["ETag"]

    def get(self, key, **fields):
        got = self.on("get_object", Key=key, **fields)
        return got["Body"].get_raw_stream().read(), self.facts(got)

    def head(self, key, **fields):
        return self.facts(self.on("head_object", Key=key, **fields))

    def facts(self, headers):
        found = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
        found["meta"] = {name[len("x-cos-meta-"):]: value for name, value in found.items() if name.startswith("x-cos-meta-")}
        found["version"] = found.get("x-cos-version-id")
        return found

    def delete(self, key, **fields):
        return self.facts(self.on("delete_object", Key=key, **fields) or {})

    def delete_many(self, keys):
        done = self.on("delete_objects", Delete={"Object": [{"Key": key} for key in keys], "Quiet": "false"})
        return sorted(one["Key"] for one in done["Deleted"])

    def copy(self, source, key, replace=None):
        where = {"Bucket": self.bucket, "Key": source, "Region": REGION}
        more = {"CopyStatus": "Replaced", "Metadata": {"x-cos-meta-" + name: value for name, value in replace.items()}} if replace else {}
        return self.on("copy_object", Key=key, CopySource=where, **more)["ETag"]

    def list(self, **fields):
        listed = self.on("list_objects", **fields)
        keys = [one["Key"] for one in listed.get("Contents") or []]
        return keys, [one["Prefix"] for one in listed.get("CommonPrefixes") or []], listed

    def pages(self, size, **fields):
        """All keys and common prefixes, page by page."""
        marker, names = "", []
        while True:
            keys, prefixes, listed = self.list(Marker=marker, MaxKeys=size, **fields)
            assert len(keys) + len(prefixes) <= size
            names += keys + prefixes
            if listed["IsTruncated"] == "false":
                return sorted(names)
            marker = listed["NextMarker"]

    def begin(self, key, **fields):
        return self.on("create_multipart_upload", Key=key, **fields)["UploadId"]

    def part(self, key, upload, number, body):
        return self.on("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]

    def part_copy(self, key, upload, number, source, begin, end):
        where = {"Bucket": self.bucket, "Key": source, "Region": REGION}
        done = self.on("upload_part_copy", Key=key, UploadId=upload, PartNumber=number, CopySource=where, CopySourceRange="bytes=%d-%d" % (begin, end))
        return done["ETag"]

    def parts(self, key, upload):
        return [(int(one["PartNumber"]), int(one["Size"])) for one in self.on("list_parts", Key=key, UploadId=upload).get("Part") or []]

    def uploads(self):
        return [one["Key"] for one in self.on("list_multipart_uploads").get("Upload") or []]

    def complete(self, key, upload, parts):
        listed = {"Part": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return self.on("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload=listed)

    def abort(self, key, upload):
        self.on("abort_multipart_upload", Key=key, UploadId=upload)

    def url(self, method, key, expires=300):
        """A URL that is signed, and the headers with which it finds this server."""
        headers = {"Host": "%s.cos.%s.myqcloud.com" % (self.bucket, REGION)}
        return self.client.get_presigned_url(Bucket=self.bucket, Key=key, Method=method, Expired=expires, Headers=headers), headers

    def set_tags(self, key, tags):
        self.on("put_object_tagging", Key=key, Tagging={"TagSet": {"Tag": [{"Key": name, "Value": value} for name, value in tags.items()]}})

    def tags(self, key):
        found = (self.on("get_object_tagging", Key=key)["TagSet"] or {}).get("Tag") or []
        return {one["Key"]: one["Value"] for one in found}

    def set_bucket_tags(self, tags):
        self.on("put_bucket_tagging", Tagging={"TagSet": {"Tag": [{"Key": name, "Value": value} for name, value in tags.items()]}})

    def bucket_tags(self):
        found = self.on("get_bucket_tagging")["TagSet"]["Tag"]
        return {one["Key"]: one["Value"] for one in found}

    def keep_versions(self):
        self.on("put_bucket_versioning", Status="Enabled")
        assert self.on("get_bucket_versioning")["Status"] == "Enabled"

    def versions(self):
        listed = self.on("list_objects_versions")
        versions = [(one["Key"], one["VersionId"], one["IsLatest"] == "true") for one in listed.get("Version") or []]
        return versions, [(one["Key"], one["VersionId"]) for one in listed.get("DeleteMarker") or []]

    def set_cors(self, origin):
        self.on("put_bucket_cors", CORSConfiguration={"CORSRule": [{
            "AllowedOrigin": [origin], "AllowedMethod": ["GET", "PUT"], "AllowedHeader": ["*"], "ExposeHeader": ["ETag"], "MaxAgeSeconds": "60"}]})

    def cors(self):
        return [rule["AllowedOrigin"] for rule in self.on("get_bucket_cors")["CORSRule"]]

    def delete_cors(self):
        self.on("delete_bucket_cors")

    def set_acl(self, acl, key=None):
        if key is None:
            self.on("put_bucket_acl", ACL=acl)
        else:
            self.on("put_object_acl", Key=key, ACL=acl)

    def acl(self, key=None):
        found = self.on("get_bucket_acl") if key is None else self.on("get_object_acl", Key=key)
        return found["Owner"]["ID"], [grant["Permission"] for grant in found["AccessControlList"]["Grant"]]

    def anonymously(self, method, key, **more):
        headers = dict(more.pop("headers", {}), Host="%s.cos.%s.myqcloud.com" % (self.bucket, REGION))
        return requests.request(method, "http://%s/%s" % (self.server.buckets, key), headers=headers, **more)


class S3:
    """boto3, with nothing but the endpoint changed."""

    name = "s3"

    def __init__(self, server, bucket):
        self.server, self.client = server, s3_client(server)
        self.bucket = bucket

    def call(self, method, **fields):
        try:
            return getattr(self.client, method)(**fields)
        except ClientError as refused:
            answer = refused.response
            code = answer["Error"]["Code"]
            raise Refused(answer["ResponseMetadata"]["HTTPStatusCode"], None if code.isdigit() else code) from None

    def on(self, method, **fields):
        return self.call(method, Bucket=self.bucket, **fields)

    def create(self):
        self.on("create_bucket", CreateBucketConfiguration={"LocationConstraint": REGION})

    def delete_bucket(self):
        self.on("delete_bucket")

    def buckets(self):
        return [one["Name"] for one in self.call("list_buckets")["Buckets"]]

    def head_bucket(self):
        self.on("head_bucket")

    def put(self, key, body=b"", meta=None, **fields):
        return self.on("put_object", Key=key, Body=body, Metadata=meta or {}, **fields)["ETag"]

    def get(self, key, **fields):
        got = self.on("get_object", Key=key, **fields)
        return got["Body"].read(), self.facts(got)

    def head(self, key, **fields):
        return self.facts(self.on("head_object", Key=key, **fields))

    def facts(self, answer):
        found = dict(answer["ResponseMetadata"]["HTTPHeaders"])
        found["meta"] = answer.get("Metadata", {})
        found["version"] = answer.get("VersionId")
        return found

    def delete(self, key, **fields):
        return self.facts(self.on("delete_object", Key=key, **fields))

    def delete_many(self, keys):
        done = self.on("delete_objects", Delete={"Objects": [{"Key": key} for key in keys]})
        return sorted(one["Key"] for one in done["Deleted"])

    def copy(self, source, key, replace=None):
        more = {"MetadataDirective": "REPLACE", "Metadata": replace} if replace else {}
        return self.on("copy_object", Key=key, CopySource={"Bucket": self.bucket, "Key": source}, **more)["CopyObjectResult"]["ETag"]

    def list(self, **fields):
        listed = self.on("list_objects", **fields)
        keys = [one["Key"] for one in listed.get("Contents", [])]
        return keys, [one["Prefix"] for one in listed.get("CommonPrefixes", [])], listed

    def pages(self, size, **fields):
        """All keys and common prefixes, page by page, of the second version of the list."""
        token, names = {}, []
        while True:
            listed = self.on("list_objects_v2", MaxKeys=size, **token, **fields)
            page = [one["Key"] for one in listed.get("Contents", [])] + [one["Prefix"] for one in listed.get("CommonPrefixes", [])]
            assert len(page) == listed["KeyCount"] <= size
            names += page
            if not listed["IsTruncated"]:
                return sorted(names)
            token = {"ContinuationToken": listed["NextContinuationToken"]}

    def begin(self, key, **fields):
        return self.on("create_multipart_upload", Key=key, **fields)["UploadId"]

    def part(self, key, upload, number, body):
        return self.on("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=body)["ETag"]

    def part_copy(self, key, upload, number, source, begin, end):
        done = self.on("upload_part_copy", Key=key, UploadId=upload, PartNumber=number, CopySource={"Bucket": self.bucket, "Key": source},
                       CopySourceRange="bytes=%d-%d" % (begin, end))
        return done["CopyPartResult"]["ETag"]

    def parts(self, key, upload):
        return [(one["PartNumber"], one["Size"]) for one in self.on("list_parts", Key=key, UploadId=upload).get("Parts", [])]

    def uploads(self):
        return [one["Key"] for one in self.on("list_multipart_uploads").get("Uploads", [])]

    def complete(self, key, upload, parts):
        listed = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return self.on("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload=listed)

    def abort(self, key, upload):
        self.on("abort_multipart_upload", Key=key, UploadId=upload)

    def url(self, method, key, expires=300):
        operation = {"GET": "get_object", "PUT": "put_object"}[method]
        return self.client.generate_presigned_url(operation, Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=expires), {}

    def set_tags(self, key, tags):
        self.on("put_object_tagging", Key=key, Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]})

    def tags(self, key):
        return {one["Key"]: one["Value"] for one in self.on("get_object_tagging", Key=key)["TagSet"]}

    def set_bucket_tags(self, tags):
        self.on("put_bucket_tagging", Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]})

    def bucket_tags(self):
        return {one["Key"]: one["Value"] for one in self.on("get_bucket_tagging")["TagSet"]}

    def keep_versions(self):
        self.on("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
        assert self.on("get_bucket_versioning")["Status"] == "Enabled"

    def versions(self):
        listed = self.on("list_object_versions")
        versions = [(one["Key"], one["VersionId"], one["IsLatest"]) for one in listed.get("Versions", [])]
        return versions, [(one["Key"], one["VersionId"]) for one in listed.get("DeleteMarkers", [])]

    def set_cors(self, origin):
        self.on("put_bucket_cors", CORSConfiguration={"CORSRules": [{
            "AllowedOrigins": [origin], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 60}]})

    def cors(self):
        return [rule["AllowedOrigins"] for rule in self.on("get_bucket_cors")["CORSRules"]]

    def delete_cors(self):
        self.on("delete_bucket_cors")

    def set_acl(self, acl, key=None):
        if key is None:
            self.on("put_bucket_acl", ACL=acl)
        else:
            self.on("put_object_acl", Key=key, ACL=acl)

    def acl(self, key=None):
        found = self.on("get_bucket_acl") if key is None else self.on("get_object_acl", Key=key)
        return found["Owner"]["ID"], [grant["Permission"] for grant in found["Grants"]]

    def anonymously(self, method, key, **more):
        return requests.request(method, "http://%s/%s-%s/%s" % (self.server.buckets, self.bucket, ACCOUNT, key), **more)
