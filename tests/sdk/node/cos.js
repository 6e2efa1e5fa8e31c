// The official Node.js SDK of COS, with nothing but the address changed.
const assert = require("assert");
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const os = require("os");
const path = require("path");
const COS = require("cos-nodejs-sdk-v5");

const Region = "ap-guangzhou";
const Bucket = "node-1250000000";
const MB = 1 << 20;

const client = (more) =>
  new COS({
    SecretId: process.env.TENCENTCLOUD_SECRET_ID,
    SecretKey: process.env.TENCENTCLOUD_SECRET_KEY,
    Protocol: "http:",
    Ip: process.env.BUCKETS,
    AutoSwitchHost: false,
    ...more,
  });
const cos = client();
const on = (method, fields) => cos[method]({ Bucket, Region, ...fields });
const md5 = (body) => crypto.createHash("md5").update(body).digest("hex");
const keys = (listed) => listed.Contents.map((one) => one.Key);

async function refused(status, code, promise) {
  const error = await promise.then(
    () => assert.fail(`${code} was expected`),
    (error) => error,
  );
  assert.strictEqual(error.statusCode, status, String(error.stack));
  if (code) assert.strictEqual(error.code, code);
}

// A request by a signed URL, whose host this server is reached under.
function fetch(url, method = "GET", body = "") {
  const at = new URL(url);
  const [hostname, port] = process.env.BUCKETS.split(":");
  return new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, method, path: at.pathname + at.search, headers: { Host: at.host } }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const cases = {
  async buckets() {
    await on("putBucket");
    const { Buckets } = await cos.getService({ Region });
    assert.strictEqual(Buckets.find((one) => one.Name === Bucket).Location, Region);
    await on("headBucket");
    await refused(409, "BucketAlreadyOwnedByYou", on("putBucket"));
    await refused(404, null, on("headBucket", { Bucket: "none-1250000000" }));
    assert.strictEqual((await on("getBucketLocation")).LocationConstraint, Region);
  },

  async objects() {
    for (const Key of ["k", "a/b c+&=.txt", "雨/rain.png", "~'()*!"]) {
      const Body = Buffer.from(`of ${Key}`);
      const put = await on("putObject", { Key, Body, ContentType: "text/x-rain", "x-cos-meta-colour": "blue", CacheControl: "max-age=7" });
      assert.strictEqual(put.ETag, `"${md5(Body)}"`);
      assert.strictEqual(put.Location, `${Bucket}.cos.${Region}.myqcloud.com/${encodeURIComponent(Key).replace(/%2F/g, "/").replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase())}`);
      const got = await on("getObject", { Key });
      assert.ok(got.Body.equals(Body));
      assert.strictEqual(got.headers["content-type"], "text/x-rain");
      const head = await on("headObject", { Key });
      assert.strictEqual(head.headers["x-cos-meta-colour"], "blue");
      assert.strictEqual(head.headers["cache-control"], "max-age=7");
      assert.strictEqual(head.ETag, put.ETag);
    }
    assert.strictEqual((await on("getObject", { Key: "k", Range: "bytes=0-1" })).Body.toString(), "of");
    await refused(404, "NoSuchKey", on("getObject", { Key: "nowhere" }));
    await refused(404, null, on("headObject", { Key: "nowhere" }));
    await refused(304, null, on("getObject", { Key: "k", IfNoneMatch: `"${md5("of k")}"` }));
    await refused(412, "PreconditionFailed", on("getObject", { Key: "k", IfMatch: '"other"' }));
    const file = path.join(os.tmpdir(), `virga-${process.pid}`);
    const written = fs.createWriteStream(file);
    await on("getObject", { Key: "k", Output: written });
    assert.strictEqual(fs.readFileSync(file, "utf8"), "of k");
    await on("putObject", { Key: "streamed", Body: fs.createReadStream(file) });
    fs.unlinkSync(file);
    assert.strictEqual((await on("getObject", { Key: "streamed" })).Body.toString(), "of k");
    const crc = (await on("headObject", { Key: "streamed" })).headers["x-cos-hash-crc64ecma"];
    assert.match(crc, /^[0-9]+$/);
    await on("putObject", { Key: "folder/", Body: "" });
    assert.strictEqual((await on("headObject", { Key: "folder/" })).headers["content-length"], "0");
  },

  async copies() {
    const CopySource = `${Bucket}.cos.${Region}.myqcloud.com/${encodeURIComponent("雨")}/rain.png`;
    const copied = await on("putObjectCopy", { Key: "copy", CopySource });
    assert.strictEqual(copied.ETag, `"${md5("of 雨/rain.png")}"`);
    assert.strictEqual((await on("headObject", { Key: "copy" })).headers["x-cos-meta-colour"], "blue");
    await on("putObjectCopy", { Key: "copy", CopySource, MetadataDirective: "Replaced", "x-cos-meta-colour": "red" });
    assert.strictEqual((await on("headObject", { Key: "copy" })).headers["x-cos-meta-colour"], "red");
    // In one piece, and in parts.
    await on("sliceCopyFile", { Key: "copied whole", CopySource });
    assert.strictEqual((await on("getObject", { Key: "copied whole" })).Body.toString(), "of 雨/rain.png");
    const Body = crypto.randomBytes(3 * MB + 1);
    await on("putObject", { Key: "large", Body });
    await on("sliceCopyFile", { Key: "copied in parts", CopySource: CopySource.replace(/\.com.*/, ".com/large"), CopySliceSize: MB, CopyChunkSize: MB });
    const got = await on("getObject", { Key: "copied in parts" });
    assert.ok(got.Body.equals(Body));
    assert.match(got.ETag, /-4"$/);
  },

  async lists() {
    const all = keys(await on("getBucket"));
    assert.deepStrictEqual(all, [...all].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other))));
    const top = await on("getBucket", { Delimiter: "/" });
    assert.deepStrictEqual(top.CommonPrefixes.map((one) => one.Prefix), ["a/", "folder/", "雨/"]);
    assert.deepStrictEqual(keys(await on("getBucket", { Prefix: "copied" })), ["copied in parts", "copied whole"]);
    const paged = [];
    for (let Marker = "", more = true; more; ) {
      const page = await on("getBucket", { MaxKeys: 3, Marker });
      assert.ok(page.Contents.length <= 3);
      paged.push(...keys(page));
      [Marker, more] = [page.NextMarker, page.IsTruncated === "true"];
    }
    assert.deepStrictEqual(paged, all);
    const encoded = await on("getBucket", { Prefix: "雨", EncodingType: "url" });
    assert.deepStrictEqual(keys(encoded), ["%E9%9B%A8/rain.png"]);
  },

  async uploads() {
    const file = path.join(os.tmpdir(), `virga-${process.pid}`);
    const body = crypto.randomBytes(4 * MB + 5);
    fs.writeFileSync(file, body);
    const progress = [];
    const sliced = await on("sliceUploadFile", { Key: "sliced", FilePath: file, ChunkSize: MB, onProgress: (one) => progress.push(one.percent) });
    assert.match(sliced.ETag, /-5"$/);
    assert.strictEqual(sliced.Location, `${Bucket}.cos.${Region}.myqcloud.com/sliced`);
    assert.strictEqual(progress.at(-1), 1);
    assert.ok((await on("getObject", { Key: "sliced" })).Body.equals(body));
    await on("uploadFile", { Key: "up", FilePath: file, SliceSize: 10 * MB });
    const many = await cos.uploadFiles({
      files: ["many/1", "many/2", "many/3"].map((Key) => ({ Bucket, Region, Key, FilePath: file })),
      SliceSize: 2 * MB,
    });
    assert.ok(many.files.every((one) => !one.error && one.data.statusCode === 200));
    assert.ok((await on("getObject", { Key: "many/3" })).Body.equals(body));
    const down = `${file}-down`;
    await on("downloadFile", { Key: "sliced", FilePath: down, ChunkSize: MB, FileSize: body.length, ParallelLimit: 3 });
    assert.ok(fs.readFileSync(down).equals(body));
    fs.unlinkSync(file);
    fs.unlinkSync(down);

    const { UploadId } = await on("multipartInit", { Key: "by hand", ContentType: "text/x-hand" });
    const parts = [body.subarray(0, MB), body.subarray(MB, MB + 7)];
    const Parts = [];
    for (const [at, Body] of parts.entries()) {
      const { ETag } = await on("multipartUpload", { Key: "by hand", UploadId, PartNumber: at + 1, Body });
      Parts.push({ PartNumber: at + 1, ETag });
    }
    const begun = await on("multipartList", { Prefix: "by" });
    assert.deepStrictEqual(begun.Upload.map((one) => [one.Key, one.UploadId]), [["by hand", UploadId]]);
    const listed = await on("multipartListPart", { Key: "by hand", UploadId });
    assert.deepStrictEqual(listed.Part.map((one) => one.Size), [String(MB), "7"]);
    await on("multipartComplete", { Key: "by hand", UploadId, Parts });
    assert.strictEqual((await on("headObject", { Key: "by hand" })).headers["content-length"], String(MB + 7));

    const given = await on("multipartInit", { Key: "aborted" });
    await on("multipartAbort", { Key: "aborted", UploadId: given.UploadId });
    await refused(404, "NoSuchUpload", on("multipartListPart", { Key: "aborted", UploadId: given.UploadId }));
    await on("multipartInit", { Key: "aborted" });
    await on("abortUploadTask", { Key: "aborted", Level: "file" });
    assert.deepStrictEqual((await on("multipartList")).Upload, []);
  },

  async appends() {
    const first = await on("appendObject", { Key: "log", Position: 0, Body: "one " });
    const next = first.headers["x-cos-next-append-position"];
    assert.strictEqual(next, "4");
    await on("appendObject", { Key: "log", Position: next, Body: "two" });
    assert.strictEqual((await on("getObject", { Key: "log" })).Body.toString(), "one two");
    await refused(409, "PositionNotEqualToLength", on("appendObject", { Key: "log", Position: 1, Body: "x" }));
  },

  async urls() {
    const url = cos.getObjectUrl({ Bucket, Region, Key: "a/b c+&=.txt", Sign: true, Expires: 60, Protocol: "http:" });
    assert.deepStrictEqual(await fetch(url), { status: 200, body: "of a/b c+&=.txt" });
    const put = cos.getObjectUrl({ Bucket, Region, Key: "by url", Method: "PUT", Sign: true, Protocol: "http:" });
    assert.strictEqual((await fetch(put, "PUT", "rain")).status, 200);
    assert.strictEqual((await fetch(put)).status, 403);
    assert.strictEqual((await on("getObject", { Key: "by url" })).Body.toString(), "rain");
    const plain = cos.getObjectUrl({ Bucket, Region, Key: "by url", Sign: false, Protocol: "http:" });
    assert.strictEqual((await fetch(plain)).status, 403);
    const named = cos.getObjectUrl({ Bucket, Region, Key: "by url", Sign: true, Protocol: "http:", Query: { "response-content-type": "text/x-url" } });
    assert.strictEqual((await fetch(named)).status, 200);
  },

  async access() {
    await on("putObjectAcl", { Key: "by url", ACL: "public-read" });
    const acl = await on("getObjectAcl", { Key: "by url" });
    assert.strictEqual(acl.ACL, "public-read");
    const plain = cos.getObjectUrl({ Bucket, Region, Key: "by url", Sign: false, Protocol: "http:" });
    assert.strictEqual((await fetch(plain)).body, "rain");
    await on("putBucketAcl", { ACL: "public-read" });
    assert.strictEqual((await on("getBucketAcl")).ACL, "public-read");
    await on("putBucketAcl", { ACL: "private" });
    await refused(403, "SignatureDoesNotMatch", client({ SecretKey: "wrong" }).getBucket({ Bucket, Region }));
    const stranger = client({ SecretId: "AKIDnobody" });
    await refused(403, "InvalidAccessKeyId", stranger.getBucket({ Bucket, Region }));
  },

  async tags() {
    await on("putBucketTagging", { Tags: [{ Key: "team", Value: "rain" }] });
    assert.deepStrictEqual((await on("getBucketTagging")).Tags, [{ Key: "team", Value: "rain" }]);
    await on("deleteBucketTagging");
    assert.deepStrictEqual((await on("getBucketTagging")).Tags, []);
    await on("putObjectTagging", { Key: "k", Tags: [{ Key: "a", Value: "1" }, { Key: "b", Value: "two words" }] });
    assert.deepStrictEqual((await on("getObjectTagging", { Key: "k" })).Tags, [{ Key: "a", Value: "1" }, { Key: "b", Value: "two words" }]);
    await on("deleteObjectTagging", { Key: "k" });
    assert.deepStrictEqual((await on("getObjectTagging", { Key: "k" })).Tags, []);
  },

  async cors() {
    const CORSRules = [{ AllowedOrigin: ["*"], AllowedMethod: ["GET", "POST"], AllowedHeader: ["*"], ExposeHeader: ["ETag"], MaxAgeSeconds: "5" }];
    await on("putBucketCors", { CORSRules });
    const [rule] = (await on("getBucketCors")).CORSRules;
    assert.deepStrictEqual([rule.AllowedOrigins, rule.AllowedMethods, rule.MaxAgeSeconds], [["*"], ["GET", "POST"], "5"]);
    const asked = await on("optionsObject", { Key: "k", Origin: "http://rain.example.com", AccessControlRequestMethod: "GET", AccessControlRequestHeaders: "x-cos-acl" });
    assert.strictEqual(asked.AccessControlAllowOrigin, "*");
    await on("deleteBucketCors");
    assert.deepStrictEqual((await on("getBucketCors")).CORSRules, []);
  },

  async versions() {
    const Kept = "kept-1250000000";
    await on("putBucket", { Bucket: Kept });
    await on("putBucketVersioning", { Bucket: Kept, VersioningConfiguration: { Status: "Enabled" } });
    assert.strictEqual((await on("getBucketVersioning", { Bucket: Kept })).VersioningConfiguration.Status, "Enabled");
    const first = await on("putObject", { Bucket: Kept, Key: "k", Body: "1" });
    await on("putObject", { Bucket: Kept, Key: "k", Body: "2" });
    assert.strictEqual((await on("getObject", { Bucket: Kept, Key: "k", VersionId: first.VersionId })).Body.toString(), "1");
    await on("deleteObject", { Bucket: Kept, Key: "k" });
    const listed = await on("listObjectVersions", { Bucket: Kept });
    assert.deepStrictEqual([listed.Versions.length, listed.DeleteMarkers.length], [2, 1]);
    const Objects = [...listed.Versions, ...listed.DeleteMarkers].map(({ Key, VersionId }) => ({ Key, VersionId }));
    await on("deleteMultipleObject", { Bucket: Kept, Objects });
    await on("deleteBucket", { Bucket: Kept });
  },

  async restores() {
    await on("putObject", { Key: "old", Body: "old", StorageClass: "ARCHIVE" });
    assert.strictEqual((await on("headObject", { Key: "old" })).headers["x-cos-storage-class"], "ARCHIVE");
    await refused(403, "InvalidObjectState", on("getObject", { Key: "old" }));
    await on("restoreObject", { Key: "old", RestoreRequest: { Days: 1, CASJobParameters: { Tier: "Expedited" } } });
    await refused(501, "NotImplemented", on("getBucketLifecycle"));
  },

  async removals() {
    await on("deleteObject", { Key: "old" });
    await on("deleteObject", { Key: "never" });
    await refused(409, "BucketNotEmpty", on("deleteBucket"));
    const Objects = keys(await on("getBucket")).map((Key) => ({ Key }));
    const done = await on("deleteMultipleObject", { Objects });
    assert.strictEqual(done.Deleted.length, Objects.length);
    assert.deepStrictEqual(keys(await on("getBucket")), []);
    await on("deleteBucket");
    await refused(404, "NoSuchBucket", on("getBucket"));
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run();
    } catch (error) {
      console.error(`${name}:`, error);
      process.exit(1);
    }
  }
  console.log("all is well");
})();
