// The whole life of a function through any client: `call` sends an action and gives the answer, or throws an error with
// the API's code.
const assert = require("assert");

const FIRST = "def main_handler(event, context):\n    print('first')\n    return event\n";
const SECOND = "import os\ndef main_handler(event, context):\n    return os.environ.get('COLOUR')\n";
const FAILS = "def main_handler(event, context):\n    raise ValueError('on purpose')\n";

// An archive of one file, stored as it is.
function zip(name, text) {
  const [file, data] = [Buffer.from(name), Buffer.from(text)];
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(20, 0);
  fields.writeUInt32LE(checksum(data), 10);
  fields.writeUInt32LE(data.length, 14);
  fields.writeUInt32LE(data.length, 18);
  fields.writeUInt16LE(file.length, 22);
  const local = Buffer.concat([Buffer.from("PK\x03\x04"), fields, file, data]);
  const central = Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), fields, Buffer.alloc(14), file]);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(1, 4);
  end.writeUInt16LE(1, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(local.length, 12);
  return Buffer.concat([local, central, Buffer.from("PK\x05\x06"), end]).toString("base64");
}

function checksum(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

async function refused(promise, code) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code, String(error));
    return true;
  });
}

module.exports = life;
module.exports.zip = zip;

async function life(call, name) {
  await call("CreateFunction", {
    FunctionName: name,
    Runtime: "Python3.9",
    MemorySize: 128,
    Timeout: 5,
    Code: { ZipFile: zip("index.py", FIRST) },
    Environment: { Variables: [{ Key: "COLOUR", Value: "grey & green" }] },
  });
  const shown = await call("GetFunction", { FunctionName: name });
  assert.strictEqual(shown.Status, "Active");
  assert.strictEqual(shown.Timeout, 5);
  const event = JSON.stringify({ a: [1, "\u4f60 + &"] });
  let result = (await call("Invoke", { FunctionName: name, ClientContext: event, LogType: "Tail" })).Result;
  assert.deepStrictEqual(JSON.parse(result.RetMsg), JSON.parse(event));
  assert.match(result.Log, /first/);
  await call("UpdateFunctionCode", { FunctionName: name, ZipFile: zip("index.py", SECOND) });
  await call("UpdateFunctionConfiguration", { FunctionName: name, MemorySize: 256 });
  result = (await call("Invoke", { FunctionName: name })).Result;
  assert.strictEqual(result.RetMsg, '"grey & green"');
  await call("UpdateFunctionCode", { FunctionName: name, Code: { ZipFile: zip("index.py", FAILS) } });
  result = (await call("Invoke", { FunctionName: name })).Result;
  assert.strictEqual(result.InvokeResult, 1);
  assert.match(JSON.parse(result.RetMsg).stackTrace, /on purpose/);
  const list = await call("ListFunctions", { SearchKey: name, Limit: 5 });
  assert.strictEqual(list.TotalCount, 1);
  assert.strictEqual(list.Functions[0].FunctionName, name);
  const logs = await call("GetFunctionLogs", { FunctionName: name, Filter: { RetCode: "not0" } });
  assert.strictEqual(logs.TotalCount, 1);
  await versions(call, name);
  await layers(call, name);
  await call("DeleteFunction", { FunctionName: name });
  await refused(call("GetFunction", { FunctionName: name }), "ResourceNotFound.Function");
  await namespaces(call, name + "-space");
  console.log("all is well");
}

async function versions(call, name) {
  const answer = async (Qualifier) => (await call("Invoke", { FunctionName: name, Qualifier })).Result.RetMsg;
  await call("UpdateFunctionCode", { FunctionName: name, ZipFile: zip("index.py", SECOND) });
  const { FunctionVersion } = await call("PublishVersion", { FunctionName: name, Description: "the first" });
  assert.strictEqual(FunctionVersion, "1");
  await call("UpdateFunctionConfiguration", {
    FunctionName: name,
    Environment: { Variables: [{ Key: "COLOUR", Value: "blue" }] },
    Publish: "TRUE",
  });
  const listed = await call("ListVersionByFunction", { FunctionName: name, Order: "ASC" });
  assert.deepStrictEqual(listed.Versions.map((one) => one.Version), ["$LATEST", "1", "2"]);
  await call("CreateAlias", { FunctionName: name, Name: "live", FunctionVersion: "1" });
  assert.strictEqual(await answer("live"), '"grey & green"');
  const AdditionalVersionWeights = [{ Version: "2", Weight: 1 }];
  await call("UpdateAlias", { FunctionName: name, Name: "live", FunctionVersion: "1", RoutingConfig: { AdditionalVersionWeights } });
  assert.strictEqual(await answer("live"), '"blue"');
  const alias = await call("GetAlias", { FunctionName: name, Name: "live" });
  assert.deepStrictEqual(alias.RoutingConfig.AdditionalVersionWeights, AdditionalVersionWeights);
  await refused(call("DeleteFunctionVersion", { FunctionName: name, Qualifier: "1" }), "UnsupportedOperation.AliasBind");
  await call("DeleteAlias", { FunctionName: name, Name: "live" });
  await call("DeleteFunctionVersion", { FunctionName: name, Qualifier: "1" });
}

async function layers(call, name) {
  const LayerName = name + "-layer";
  const Content = { ZipFile: zip("shared.py", "WORD = 'shared'\n") };
  const { LayerVersion } = await call("PublishLayerVersion", { LayerName, CompatibleRuntimes: ["Python3.9"], Content });
  assert.strictEqual(LayerVersion, 1);
  await call("UpdateFunctionConfiguration", { FunctionName: name, Layers: [{ LayerName, LayerVersion }] });
  const uses = "import shared\ndef main_handler(event, context):\n    return shared.WORD\n";
  await call("UpdateFunctionCode", { FunctionName: name, ZipFile: zip("index.py", uses) });
  assert.strictEqual((await call("Invoke", { FunctionName: name })).Result.RetMsg, '"shared"');
  await call("DeleteLayerVersion", { LayerName, LayerVersion });
  await refused(call("GetLayerVersion", { LayerName, LayerVersion }), "ResourceNotFound.Layer");
}

async function namespaces(call, Namespace) {
  await call("CreateNamespace", { Namespace, Description: "of the tests" });
  const { Namespaces } = await call("ListNamespaces", {});
  assert.ok(Namespaces.some((one) => one.Name === Namespace && one.Description === "of the tests"));
  await call("DeleteNamespace", { Namespace });
  await refused(call("ListFunctions", { Namespace }), "ResourceNotFound.Namespace");
}
