"""Creates a thumbnail of an uploaded picture, below thumbs/."""

import io
import os

import boto3
from PIL import Image, ImageOps

SIZE = (128, 128)
# Created once per instance and reused by its requests. The credentials are those of the function's role.
s3 = boto3.client("s3", endpoint_url=os.environ["VIRGA_BUCKETS"], region_name=os.environ["TENCENTCLOUD_REGION"],
                  aws_access_key_id=os.environ["TENCENTCLOUD_SECRETID"],
                  aws_secret_access_key=os.environ["TENCENTCLOUD_SECRETKEY"],
                  aws_session_token=os.environ["TENCENTCLOUD_SESSIONTOKEN"])


def main_handler(event, context):
    for record in event["Records"]:
        bucket, place = record["cos"]["cosBucket"], record["cos"]["cosObject"]["key"]
        key = place.removeprefix("/%s/%s/" % (bucket["appid"], bucket["name"]))
        picture = Image.open(io.BytesIO(s3.get_object(Bucket=bucket["name"], Key=key)["Body"].read()))
        small = ImageOps.exif_transpose(picture).convert("RGB")
        small.thumbnail(SIZE)
        body = io.BytesIO()
        small.save(body, "JPEG")
        target = "thumbs/" + key.removeprefix("in/")
        s3.put_object(Bucket=bucket["name"], Key=target, Body=body.getvalue(), ContentType="image/jpeg")
        print("%s, %d by %d, is now %s, %d by %d" % (key, *picture.size, target, *small.size))
