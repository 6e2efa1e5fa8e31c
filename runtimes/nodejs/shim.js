'use strict';
// The Node.js runtime: loads the handler of a function, then serves events one at a time.
//
// All of it runs as the user's instance. Descriptor 6 contains the configuration. The instance reads frames from descriptor 3
// and writes frames to descriptor 4; descriptor 5 is the start mark. A frame is a length (u32, little-endian), a kind, the
// protocol's version, two zero bytes and a payload; see the sandbox's `wire` module.

const { AsyncLocalStorage } = require('async_hooks');
const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const { pathToFileURL } = require('url');

const START_MARK = 5, CONFIGURATION = 6;
const VERSION = 2, INVOKE = 2, READY = 16, ANSWER = 17;
const OK = 200, TOO_LARGE = 407, EXCEPTION = 430, HANDLER_NOT_FOUND = 437, CODE_ERROR = 443;
const HEADER = 8, ID = 16, MARK = 8;
// Offsets in a request: its number for the start mark, its deadline (ms), earlier attempts, the length of further metadata, which
// follows.
const NUMBER = ID, DEADLINE = NUMBER + MARK, ATTEMPT = DEADLINE + 8, LENGTH = ATTEMPT + 4, METADATA = LENGTH + 4;
const STACK_MAX = 64 << 10;

// User code may replace it.
const { writeSync } = fs;
const config = JSON.parse(fs.readFileSync(CONFIGURATION, 'utf8'));
fs.closeSync(CONFIGURATION);
const requests = new net.Socket({ fd: 3, readable: true, writable: false });
const answers = new net.Socket({ fd: 4, readable: false, writable: true });
const begun = process.hrtime.bigint();

/** The event in progress: its id, whether it was answered, and the deferred completion of a callback. */
let current = null;
let handler = null;
/** The event that started the current asynchronous context, even long after its answer. */
const started = new AsyncLocalStorage();
/** Whether this process exits before it accepts another event. */
let exiting = false;
/** Standard streams in use. They are created on first use, because creating one is slow. */
const usedStreams = [];

for (const name of ['stdout', 'stderr']) {
  const { get, enumerable } = Object.getOwnPropertyDescriptor(process, name);
  let stream = null;
  const first = () => {
    stream = get.call(process);
    // Both streams share one pipe. If writes were buffered while the pipe is full, their lines would interleave.
    if (stream._handle && stream._handle.setBlocking) stream._handle.setBlocking(true);
    usedStreams.push(stream);
    return stream;
  };
  Object.defineProperty(process, name, { configurable: true, enumerable, get: () => stream || first() });
}

/** Calls `then` once all output was written to the log pipe. */
function flush(then) {
  const waiting = usedStreams.filter((stream) => stream.writableLength > 0 && !stream.destroyed);
  let left = waiting.length;
  if (left === 0) return then();
  const one = () => --left === 0 && then();
  for (const stream of waiting) stream.write('', one);
}

function send(kind, status, body, then) {
  const head = Buffer.alloc(HEADER + 2);
  head.writeUInt32LE(2 + body.length, 0);
  head[4] = kind;
  head[5] = VERSION;
  head.writeUInt16LE(status, HEADER);
  answers.write(Buffer.concat([head, body]), then);
}

function raised(error) {
  let stack = error instanceof Error ? error.stack || String(error) : util.inspect(error);
  if (stack.length > STACK_MAX) {
    stack = stack.slice(0, STACK_MAX / 2) + '\n...\n' + stack.slice(-STACK_MAX / 2);
  }
  return { message: 'user code exception caught', stack };
}

/** Answers the current event. Further answers are ignored. The answer carries the request id. */
function answer(status, value) {
  if (current === null || current.answered) return;
  const id = current.id;
  current.answered = true;
  requests.ref();
  let body;
  try {
    const text = JSON.stringify(value);
    body = Buffer.from(text === undefined ? 'null' : text);
  } catch (error) {
    status = EXCEPTION;
    body = Buffer.from(JSON.stringify(raised(error)));
  }
  if (body.length > config.response_bytes) {
    status = TOO_LARGE;
    const text = `response of ${body.length} bytes exceeds the limit of ${config.response_bytes} bytes`;
    body = Buffer.from(JSON.stringify({ message: text }));
  }
  // Promise rejections of this turn are reported first, so that they appear in the log of the event that caused them.
  setImmediate(flush, () => {
    current = null;
    if (exiting) requests.pause();
    send(ANSWER, status, Buffer.concat([id, body]), () => exiting && process.exit(1));
  });
}

function fail(error) {
  answer(EXCEPTION, raised(error));
}

/** Formats a request id as a UUID. */
function formatId(id) {
  return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/**
 * Logs an error that occurred after the answer to its event. The state of the code is unknown from then on, so this process
 * exits after the current event. An event that it has not accepted is sent to another instance.
 */
function failLate(error, event) {
  const of = event ? ` of request ${formatId(event.id)}` : '';
  process.stderr.write(`error${of} after its answer: ${util.inspect(error)}\n`);
  exiting = true;
  if (current !== null) return;
  requests.pause();
  flush(() => process.exit(1));
}

function run(payload) {
  const id = payload.subarray(0, ID);
  const event = METADATA + payload.readUInt32LE(LENGTH);
  current = { id, answered: false, waiting: null };
  const mine = current;
  const deadline = payload.readUInt32LE(DEADLINE) + payload.readUInt32LE(DEADLINE + 4) * 2 ** 32;
  const { traceparent, tracestate } = JSON.parse(payload.toString('utf8', METADATA, event));
  const context = Object.assign({}, config.context, {
    request_id: formatId(id),
    retry_num: payload.readUInt32LE(ATTEMPT),
    ...(traceparent && { traceparent }),
    ...(tracestate && { tracestate }),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  });
  const callback = (error, value) => {
    if (current !== mine || mine.waiting) return;
    const finish = () => {
      if (current !== mine) return;
      if (error !== null && error !== undefined) fail(error);
      else answer(OK, value);
    };
    // Defer the answer until the event loop is empty except for the platform's own handles.
    if (context.callbackWaitsForEmptyEventLoop) mine.waiting = finish;
    else finish();
  };
  // The oldest handler API.
  context.done = callback;
  context.succeed = (value) => callback(null, value);
  context.fail = (error) => callback(error === null || error === undefined ? new Error('failed') : error);
  requests.unref();
  try {
    const document = JSON.parse(payload.toString('utf8', event));
    writeSync(START_MARK, payload, NUMBER, MARK, 0);
    const returned = started.run(mine, () => handler(document, context, callback));
    if (returned && typeof returned.then === 'function') {
      returned.then(
        (value) => current === mine && !mine.waiting && answer(OK, value),
        (error) => current === mine && fail(error),
      );
    } else if (handler.length < 2 || (handler.length < 3 && returned !== undefined)) {
      // The handler takes no callback, so its return value is the answer. With two parameters and no return value, it may still
      // answer through the context.
      answer(OK, returned);
    }
  } catch (error) {
    fail(error);
  }
}

process.on('beforeExit', () => {
  if (current === null || current.answered) return;
  if (current.waiting) current.waiting();
  // The handler has not answered, and the event loop is empty, so it never will.
  else answer(OK, null);
});
for (const name of ['uncaughtException', 'unhandledRejection']) {
  process.on(name, (error) => {
    const event = started.getStore();
    const own = event === undefined || event === current;
    if (own && current && !current.answered) fail(error);
    else failLate(error, event);
  });
}

let pending = Buffer.alloc(0);
let parts = [];
let have = 0;

requests.on('data', (data) => {
  parts.push(data);
  have += data.length;
  for (;;) {
    if (have < HEADER) return;
    if (parts.length > 1 && parts[0].length < HEADER) parts = [Buffer.concat(parts)];
    const end = HEADER + parts[0].readUInt32LE(0);
    if (have < end) return;
    pending = parts.length > 1 ? Buffer.concat(parts) : parts[0];
    const kind = pending[4];
    const payload = pending.subarray(HEADER, end);
    parts = have > end ? [pending.subarray(end)] : [];
    have -= end;
    if (kind !== INVOKE || pending[5] !== VERSION) process.exit(1);
    run(payload);
  }
});
// The platform closed the pipe.
requests.on('end', () => process.exit(0));
for (const pipe of [requests, answers]) pipe.on('error', () => process.exit(0));

/** Errors of `require` for modules that `import` can load: ECMAScript modules, and modules with top-level await. */
const NEEDS_IMPORT = ['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE', 'ERR_REQUIRE_CYCLE_MODULE'];

/** Finds the handler's file in the code or a layer. */
function find(name) {
  for (const root of [config.code, config.layers]) {
    for (const end of ['.js', '.cjs', '.mjs', '/index.js']) {
      const file = path.join(root, name + end);
      if (fs.existsSync(file)) return file;
    }
  }
  return null;
}

async function load() {
  const dot = config.handler.lastIndexOf('.');
  const [name, exported] = [config.handler.slice(0, dot), config.handler.slice(dot + 1)];
  const file = find(name);
  if (file === null) {
    return [HANDLER_NOT_FOUND, { message: `handler file ${name}.js not found in ${config.code}` }];
  }
  let loaded;
  try {
    loaded = require(file);
  } catch (error) {
    if (!NEEDS_IMPORT.includes(error.code)) {
      return [error instanceof SyntaxError ? CODE_ERROR : EXCEPTION, raised(error)];
    }
    try {
      loaded = await import(pathToFileURL(file).href);
    } catch (inner) {
      return [inner instanceof SyntaxError ? CODE_ERROR : EXCEPTION, raised(inner)];
    }
  }
  handler = loaded[exported] || (loaded.default && loaded.default[exported]);
  if (typeof handler !== 'function') {
    return [HANDLER_NOT_FOUND, { message: `function ${exported} not found in ${name}.js` }];
  }
  return [OK, null];
}

process.chdir(config.code);
process.umask(0o022);
load().then(([status, error]) => {
  const report = { import_us: Number((process.hrtime.bigint() - begun) / 1000n) };
  if (error) report.error = error;
  send(READY, status, Buffer.from(JSON.stringify(report)), () => status === OK || process.exit(0));
});
