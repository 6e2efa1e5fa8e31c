// The client that the Serverless tool-kit calls SCF with, signing by version 1 as it does, and by TC3. Without ENDPOINT it
// goes where the tool-kit goes: to the cloud's own host, over TLS.
const { Capi } = require("@tencent-sdk/capi");
const life = require("./life");

function caller(isV3) {
  const client = new Capi({
    region: "ap-guangzhou",
    secretId: process.env.TENCENTCLOUD_SECRET_ID,
    secretKey: process.env.TENCENTCLOUD_SECRET_KEY,
    serviceType: "scf",
    version: "2018-04-16",
  });
  const where = process.env.ENDPOINT ? { protocol: "http", host: process.env.ENDPOINT } : {};
  const options = { ...where, isV3, debug: false };
  return async (action, fields) => {
    const { Response } = await client.request({ Action: action, Version: "2018-04-16", ...fields }, options);
    if (Response.Error) throw Object.assign(new Error(Response.Error.Message), { code: Response.Error.Code });
    return Response;
  };
}

(async () => {
  await life(caller(false), "toolkit-v1");
  await life(caller(true), "toolkit-v3");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
