"""Rewrites the index when a word count changes."""

import json
import os

import boto3
from botocore.exceptions import ClientError

INDEX = "index.json"
s3 = boto3.client("s3", endpoint_url=os.environ["VIRGA_BUCKETS"], region_name=os.environ["TENCENTCLOUD_REGION"],
                  aws_access_key_id=os.environ["TENCENTCLOUD_SECRETID"],
                  aws_secret_access_key=os.environ["TENCENTCLOUD_SECRETKEY"],
                  aws_session_token=os.environ["TENCENTCLOUD_SESSIONTOKEN"])


def main_handler(event, context):
    bucket = event["Records"][0]["cos"]["cosBucket"]["name"]
    while not write(bucket):
        print("lost a race with another instance; retrying")


def write(bucket):
    """Rewrites the index with optimistic concurrency. Returns False if it was changed meanwhile."""
    try:
        unless_changed = {"IfMatch": s3.head_object(Bucket=bucket, Key=INDEX)["ETag"]}
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        unless_changed = {"IfNoneMatch": "*"}
    index = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="words/"):
        for item in page.get("Contents", []):
            words = read(bucket, item["Key"])
            if words is not None:
                index[item["Key"].removeprefix("words/")] = int(words)
    try:
        s3.put_object(Bucket=bucket, Key=INDEX, Body=json.dumps(index, indent=2, sort_keys=True), **unless_changed)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        return False
    print("the index has", len(index), "documents")
    return True


def read(bucket, key):
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None  # Deleted after it was listed. Another event will report that.
