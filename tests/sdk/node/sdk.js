// The official Node.js SDK.
const { scf } = require("tencentcloud-sdk-nodejs-scf");
const life = require("./life");

const client = new scf.v20180416.Client({
  credential: { secretId: process.env.TENCENTCLOUD_SECRET_ID, secretKey: process.env.TENCENTCLOUD_SECRET_KEY },
  region: "ap-guangzhou",
  profile: { httpProfile: { endpoint: process.env.ENDPOINT, protocol: "http://" } },
});

life((action, fields) => client.request(action, fields), "node-sdk").catch((error) => {
  console.error(error);
  process.exit(1);
});
