"""Counts the words of a created document, or deletes the count of a deleted one."""

import os

import boto3

s3 = boto3.client("s3", endpoint_url=os.environ["VIRGA_BUCKETS"], region_name=os.environ["TENCENTCLOUD_REGION"],
                  aws_access_key_id=os.environ["TENCENTCLOUD_SECRETID"],
                  aws_secret_access_key=os.environ["TENCENTCLOUD_SECRETKEY"],
                  aws_session_token=os.environ["TENCENTCLOUD_SESSIONTOKEN"])


def main_handler(event, context):
    for record in event["Records"]:
        bucket, place = record["cos"]["cosBucket"], record["cos"]["cosObject"]["key"]
        key = place.removeprefix("/%s/%s/" % (bucket["appid"], bucket["name"]))
        counted = "words/" + key.removeprefix("documents/")
        # Events may be late, duplicated or out of order. Reading the current state makes the handler idempotent.
        try:
            text = s3.get_object(Bucket=bucket["name"], Key=key)["Body"].read().decode("utf-8", "replace")
        except s3.exceptions.NoSuchKey:
            s3.delete_object(Bucket=bucket["name"], Key=counted)
            print(key, "was deleted")
        else:
            s3.put_object(Bucket=bucket["name"], Key=counted, Body=str(len(text.split())))
            print(key, "has", len(text.split()), "words")
