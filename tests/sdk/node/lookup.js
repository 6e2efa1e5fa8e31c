// Leads the cloud's names to ADDRESS, as lines of a hosts file do, for this process alone.
const dns = require("dns");
const real = dns.lookup;

dns.lookup = (name, options, callback) => {
  if (!name.endsWith(".tencentcloudapi.com")) return real(name, options, callback);
  const done = callback || options;
  const found = options.all ? [[{ address: process.env.ADDRESS, family: 4 }]] : [process.env.ADDRESS, 4];
  process.nextTick(() => done(null, ...found));
};
