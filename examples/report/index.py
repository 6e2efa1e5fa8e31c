"""Writes a report on the contents of all buckets into one of them, on a timer."""

import json
import os

import boto3

s3 = boto3.client("s3", endpoint_url=os.environ["VIRGA_BUCKETS"], region_name=os.environ["TENCENTCLOUD_REGION"],
                  aws_access_key_id=os.environ["TENCENTCLOUD_SECRETID"],
                  aws_secret_access_key=os.environ["TENCENTCLOUD_SECRETKEY"],
                  aws_session_token=os.environ["TENCENTCLOUD_SESSIONTOKEN"])


def main_handler(event, context):
    buckets = {}
    for bucket in s3.list_buckets()["Buckets"]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
        sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
        buckets[bucket["Name"]] = {"objects": len(sizes), "bytes": sum(sizes)}
    # Events may be duplicated. A key derived from the timer's due time makes the handler idempotent.
    key = event["Time"] + ".json"
    s3.put_object(Bucket=os.environ["REPORTS"], Key=key, Body=json.dumps(buckets, indent=2), ContentType="application/json")
    print("wrote", key)
