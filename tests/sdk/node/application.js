// A whole application, deployed, updated and removed by the Serverless tool-kit. Nothing in it is patched: it goes to the cloud's own
// hosts over TLS, which lookup.js leads here.
const assert = require("assert");
const fs = require("fs");
const os = require("os");
const path = require("path");
const { Cos, Layer, Scf, Tag } = require("tencent-component-toolkit");
const { zip } = require("./life");

const region = "ap-guangzhou";
const pair = { SecretId: process.env.TENCENTCLOUD_SECRET_ID, SecretKey: process.env.TENCENTCLOUD_SECRET_KEY };
const [APP_ID, ROLE] = [process.env.APP_ID, process.env.ROLE];
const bucket = `code-${APP_ID}`;
const photos = `photos-${APP_ID}.cos.${region}.myqcloud.com`;
const [cos, layer, scf, tag] = [Cos, Layer, Scf, Tag].map((Part) => new Part(pair, region));

const FIRST = "import os, shared\ndef main_handler(event, context):\n    return [shared.WORD, os.environ['COLOUR'], event]\n";
const SECOND = "import os\ndef main_handler(event, context):\n    return ['second', os.environ['COLOUR'], event]\n";

async function upload(name, file, text) {
  const at = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "kit-")), name);
  fs.writeFileSync(at, Buffer.from(zip(file, text), "base64"));
  await cos.upload({ bucket, file: at, key: name });
}

const invoke = async (more) => {
  const { Result } = await scf.invoke({ functionName: "application", namespace: "default", clientContext: { n: 1 }, ...more });
  return JSON.parse(Result.RetMsg);
};

const get = (functionName = "application") => scf.scf.get({ functionName, namespace: "default", showTriggers: true });
const tagsOf = async () => Object.fromEntries((await get()).Tags.map(({ Key, Value }) => [Key, Value]));
const triggers = async () => (await scf.getTriggerList("application", "default")).map(({ Type }) => Type).sort();

const timer = (cron) => ({ timer: { name: "timer", parameters: { cronExpression: cron, enable: true, argument: "of the timer" } } });
const ofBucket = (prefix) => ({
  cos: { parameters: { bucket: photos, enable: true, events: "cos:ObjectCreated:*", filter: { prefix, suffix: ".jpg" }, qualifier: "$DEFAULT" } },
});
const url = (authType) => ({ http: { parameters: { authType, netConfig: { enableIntranet: true, enableExtranet: true } } } });

const inputs = {
  name: "application",
  namespace: "default",
  region,
  code: { bucket, object: "first.zip" },
  handler: "index.main_handler",
  runtime: "Python3.9",
  description: "of the tool-kit",
  memorySize: 256,
  timeout: 20,
  initTimeout: 30,
  role: ROLE,
  eip: true,
  traceEnable: true,
  cls: { logsetId: "logset-1", topicId: "topic-1" },
  vpcConfig: { vpcId: "vpc-1", subnetId: "subnet-1" },
  cfs: [{ cfsId: "cfs-1", localMountDir: "/mnt/", remoteMountDir: "/" }],
  environment: { variables: { COLOUR: "grey" } },
  tags: { team: "rain", stage: "test" },
  publish: true,
  aliasName: "live",
  additionalVersionWeights: [],
  events: [timer("0 30 2 * * * *"), ofBucket("in/"), url("NONE")],
};

async function deploy() {
  await cos.deploy({ bucket, tags: [{ key: "team", value: "rain" }] });
  await upload("first.zip", "index.py", FIRST);
  await upload("second.zip", "index.py", SECOND);
  await upload("layer.zip", "shared.py", "WORD = 'shared'\n");
  const published = await layer.deploy({ region, name: "shared", bucket, object: "layer.zip", description: "a word", runtimes: ["Python3.9"] });
  assert.strictEqual(published.version, 1);
  inputs.layers = [{ name: "shared", version: published.version }];
  const made = await scf.deploy(inputs);
  assert.deepStrictEqual(
    [made.Status, made.Runtime, made.MemorySize, made.Role, made.LastVersion, made.TraceEnable],
    ["Active", "Python3.9", 256, ROLE, "1", "TRUE"],
  );
  assert.deepStrictEqual(made.EipConfig, { EipFixed: "TRUE", Eips: [] });
  assert.deepStrictEqual(made.VpcConfig, { VpcId: "vpc-1", SubnetId: "subnet-1" });
  const { CfsId, MountVpcId, MountSubnetId } = made.CfsConfig.CfsInsList[0];
  assert.deepStrictEqual([CfsId, MountVpcId, MountSubnetId], ["cfs-1", "vpc-1", "subnet-1"]);
  assert.deepStrictEqual([made.ClsLogsetId, made.ClsTopicId], ["logset-1", "topic-1"]);
  assert.deepStrictEqual(made.Triggers.map((one) => one.Type), ["timer", "cos", "http"]);
  const desc = { bucketUrl: photos, event: "cos:ObjectCreated:*", filter: { Prefix: "in/", Suffix: ".jpg" } };
  assert.strictEqual(made.Triggers[1].TriggerDesc, JSON.stringify(desc));
  assert.deepStrictEqual(await tagsOf(), { team: "rain", stage: "test" });
  assert.deepStrictEqual(await invoke(), ["shared", "grey", { n: 1 }]);
  assert.deepStrictEqual(await invoke({ qualifier: "live" }), ["shared", "grey", { n: 1 }]);
  const alias = await scf.alias.get({ functionName: "application", namespace: "default", aliasName: "live" });
  assert.strictEqual(alias.FunctionVersion, "1");
  // The tool-kit makes these through the API gateway's own service, which is not here; SCF's action makes one, too.
  const api = { api: { authRequired: "FALSE", requestConfig: { method: "ANY" }, isIntegratedResponse: "FALSE" }, service: { serviceName: "SCF_API_SERVICE" }, release: { environmentName: "release" } };
  await scf.request({
    Action: "CreateTrigger", FunctionName: "application", TriggerName: "gateway", Type: "apigw", TriggerDesc: JSON.stringify(api), Qualifier: "$DEFAULT", Enable: "OPEN",
  });
  assert.deepStrictEqual(await triggers(), ["apigw", "cos", "http", "timer"]);
  await assert.rejects(scf.apigwClient.deploy({ region, serviceName: "x", protocols: ["http"], environment: "release", endpoints: [] }), /"apigateway" is not here/);
}

async function reserve() {
  const of = { functionName: "application", namespace: "default" };
  const { concurrency } = scf;
  await concurrency.setReserved({ ...of, reservedMem: 1024 });
  assert.deepStrictEqual(await concurrency.getReserved(of), { reservedMem: 1024 });
  await concurrency.setProvisioned({ ...of, qualifier: "1", provisionedNum: 1 });
  await concurrency.waitProvisioned(of);
  const [held] = (await concurrency.getProvisioned(of)).allocated;
  assert.deepStrictEqual([held.qualifier, held.allocatedNum, held.availableNum], ["1", 1, 1]);
  await concurrency.removeProvisioned({ ...of, qualifier: "1" });
  assert.deepStrictEqual((await concurrency.getProvisioned(of)).allocated, []);
}

async function update() {
  const gateway = (await scf.getTriggerList("application", "default")).find(({ Type }) => Type === "apigw");
  await scf.request({ Action: "DeleteTrigger", FunctionName: "application", Namespace: "default", TriggerName: gateway.TriggerName, Type: "apigw" });
  const before = (await scf.getTriggerList("application", "default")).find(({ Type }) => Type === "timer");
  const changed = await scf.deploy({
    ...inputs,
    code: { bucket, object: "second.zip" },
    environment: { variables: { COLOUR: "blue" } },
    memorySize: 128,
    layers: [],
    eip: false,
    traceEnable: false,
    tags: [{ key: "team", value: "sun" }, { key: "new", value: "1" }],
    events: [timer("0 30 2 * * * *"), ofBucket("out/"), url("CAM")],
  });
  assert.deepStrictEqual([changed.MemorySize, changed.LastVersion, changed.TraceEnable, changed.Layers], [128, "2", "FALSE", []]);
  assert.deepStrictEqual(changed.EipConfig, { EipFixed: "FALSE", Eips: [] });
  assert.deepStrictEqual(await tagsOf(), { team: "sun", new: "1" });
  const listed = await scf.getTriggerList("application", "default");
  assert.deepStrictEqual(listed.map(({ Type }) => Type).sort(), ["cos", "http", "timer"]);
  const of = (type) => listed.find(({ Type }) => Type === type);
  assert.strictEqual(JSON.parse(of("cos").TriggerDesc).filter.Prefix, "out/");
  assert.strictEqual(JSON.parse(of("http").TriggerDesc).AuthType, "CAM");
  assert.strictEqual(of("timer").AddTime, before.AddTime, "unchanged fields keep their values");
  assert.deepStrictEqual(await invoke({ qualifier: "live" }), ["second", "blue", { n: 1 }]);
  assert.deepStrictEqual(await invoke({ qualifier: "1" }), ["shared", "grey", { n: 1 }]);
  // Older inputs share requests out between $LATEST and the last version.
  const shared = await scf.deploy({ ...inputs, aliasName: undefined, additionalVersionWeights: undefined, traffic: 0.2, ignoreTriggers: true });
  assert.deepStrictEqual([shared.LastVersion, shared.ConfigTrafficVersion, shared.Traffic, shared.Triggers], ["3", "3", 0.2, []]);
  const versions = await scf.version.list({ functionName: "application" });
  assert.deepStrictEqual(versions.Versions.map(({ Version }) => Version).sort(), ["$LATEST", "1", "2", "3"]);
}

async function asynchronously() {
  const late = { ...inputs, name: "late", type: "event", publish: false, aliasName: undefined, additionalVersionWeights: undefined, events: undefined, tags: undefined };
  const made = await scf.deploy({ ...late, asyncRunEnable: true, msgTTL: 3600, retryNum: 0 });
  assert.deepStrictEqual([made.AsyncRunEnable, made.TraceEnable], ["TRUE", "TRUE"]);
  const { AsyncTriggerConfig } = await scf.scf.getAsyncRetryConfig({ name: "late" }, {});
  const rules = [{ ErrorCode: ["default"], RetryNum: 0, RetryInterval: 60 }, { ErrorCode: ["432"], RetryNum: -1, RetryInterval: 60 }];
  assert.deepStrictEqual(AsyncTriggerConfig, { MsgTTL: 3600, RetryConfig: rules });
  const again = await scf.deploy({ ...late, asyncRunEnable: true, traceEnable: false });
  assert.deepStrictEqual([again.AsyncRunEnable, again.TraceEnable], ["TRUE", "FALSE"]);
  assert.strictEqual(await scf.remove({ functionName: "late", namespace: "default" }), true);
}

async function tags() {
  const of = { serviceType: "scf", resourcePrefix: "namespace", resourceIds: ["default/function/application"] };
  await tag.deploy({ ...of, attachTags: [{ TagKey: "by-hand", TagValue: "1" }], detachTags: [{ TagKey: "stage" }] });
  const found = await tag.getScfResourceTags({ functionName: "application" });
  assert.ok(found.some(({ TagKey, TagValue }) => TagKey === "by-hand" && TagValue === "1"));
  const known = await tag.getTagList();
  assert.ok(tag.isTagExist({ TagKey: "by-hand", TagValue: "1" }, known));
  await tag.deploy({ ...of, detachTags: [{ TagKey: "by-hand" }] });
  await tag.deleteTags([{ TagKey: "by-hand", TagValue: "1" }]);
  assert.ok(!tag.isTagExist({ TagKey: "by-hand", TagValue: "1" }, await tag.getTagList()));
}

async function remove() {
  assert.strictEqual(await scf.remove({ functionName: "application", namespace: "default" }), true);
  assert.strictEqual(await get(), null);
  await layer.remove({ name: "shared", version: 1 });
  assert.strictEqual(await layer.getLayerDetail("shared", 1), null);
  await cos.remove({ bucket });
  assert.strictEqual(await cos.isBucketExist(bucket), false);
}

(async () => {
  for (const step of [deploy, reserve, update, asynchronously, tags, remove]) {
    await step();
    console.log("done: " + step.name);
  }
  console.log("all is well");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
