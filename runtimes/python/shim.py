"""The Python runtime: a zygote that preloads the interpreter, and forks one process per instance.

Runs with `python -I -S` and the path of the sandbox's library. Everything up to the return of `virga_wait` is trusted and
runs before any user code; everything after it runs as the user's instance. The instance reads frames from descriptor 3 and writes frames to
descriptor 4; descriptor 5 is the start mark. A frame is a length (u32, little-endian), a kind, the protocol's version, two zero
bytes and a payload; see the sandbox's `wire` module.

Without that path it is no zygote: it was started, confined, with the environment of one function, and its configuration is
descriptor 6. That is for functions that set variables which a process reads only at its start.
"""

import sys


def take_own_path():
    """Removes the entries before the library's from the module path and returns those that `PYTHONPATH` added. The shim then
    imports the library's modules, even if the user's have the same names."""
    import posix  # Built in, as `sys` is.

    if sys.path and sys.path[0] == __file__.rpartition("/")[0]:
        del sys.path[0]
    variable = posix.environ.get(b"PYTHONPATH", b"")
    count = variable.count(b":") + 1 if variable else 0
    own = sys.path[:count]
    del sys.path[:count]
    return own


# A zygote has none.
OWN_PATH = take_own_path() if len(sys.argv) == 1 else []

import atexit
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.util
import io
import json
import logging
import mmap
import os
import random
import re
import struct
import time
import traceback
import types

REQUESTS, ANSWERS, START_MARK, CONFIGURATION = 3, 4, 5, 6
ASSIGN_MAX = 256 << 10
VERSION = 2
INVOKE, READY, ANSWER = 2, 16, 17
HEADER = struct.Struct("<IBBxx")
# Of a request: its id, its number for the start mark, its deadline (ms), earlier attempts, the length of further metadata.
REQUEST = struct.Struct("<16s8sQII")
ID, MARK = 16, 8

OK = 200
TOO_LARGE = 407
EXCEPTION = 430
HANDLER_NOT_FOUND = 437
CODE_ERROR = 443

# Directories of code and layers. The configuration overrides them if the instance has no root of its own.
CODE, LAYERS = "/var/user", "/opt"
# Module that extends the CA list of certifi with the platform's own.
AUTHORITIES = None
STACK_MAX = 64 << 10
EMPTY_BYTES = sys.getsizeof(b"")
FILLERS = []
# File suffixes of modules in this Python version: sources, bytecode, extension modules.
MODULE_SUFFIXES = tuple(importlib.machinery.all_suffixes())

# `json.dumps` creates an encoder per call unless all its options are defaults.
ENCODE = json.JSONEncoder(ensure_ascii=False).encode

# Modules that functions import most often. The zygote preloads them, so that all instances share their pages.
PRELOADED = (
    "base64 bisect calendar collections concurrent.futures contextlib copy csv datetime decimal email.utils "
    "encodings.idna enum fractions functools glob gzip hashlib heapq hmac html http.client http.cookies inspect "
    "ipaddress itertools math mimetypes operator pathlib pickle platform queue random re secrets select shutil "
    "signal socket ssl statistics string subprocess tempfile textwrap threading typing unicodedata urllib.parse "
    "urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib"
).split()


def main():
    if len(sys.argv) > 1:
        be_zygote(sys.argv[1])
    else:
        be_fresh()


def be_zygote(path):
    library = ctypes.PyDLL(path)
    library.virga_wait.restype = ctypes.c_ssize_t
    library.virga_wait.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    buffer = ctypes.create_string_buffer(ASSIGN_MAX)
    preload(buffer)
    while library.virga_serve() == 0:
        # os.fork() runs the hooks that libraries registered, so that the child's random numbers differ.
        try:
            child = os.fork()
        except OSError:
            child = -1  # The sandbox init has exited.
        if child == 0:
            break
        library.virga_forked(child)
    has_time = library.virga_enter_sandbox()
    reseed()
    if has_time:
        warm_up(buffer)
    length = library.virga_wait(buffer, ASSIGN_MAX)
    Instance(read_config(buffer, length)).run()


def be_fresh():
    with open(CONFIGURATION, "rb") as file:
        config = json.loads(file.read().decode("utf-8"))
    for pipe in (REQUESTS, ANSWERS, START_MARK):
        os.set_inheritable(pipe, False)
    print_by_line()
    log_by_default()
    global AUTHORITIES
    AUTHORITIES = own_module("authorities", "site/sitecustomize.py")
    Instance(config, fresh=True).run()


def print_by_line():
    """Makes standard streams as a copy has them, but for what the environment says of them."""
    errors = None if "PYTHONIOENCODING" in os.environ else "backslashreplace"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors=errors)
        else:
            more = {"encoding": stream.encoding, "errors": errors or stream.errors}
            buffer = stream.detach()  # Unbuffered, `buffer` is a plain file.
            stream = io.TextIOWrapper(buffer, line_buffering=True, write_through=not hasattr(buffer, "raw"), **more)
            setattr(sys, name, stream)
            setattr(sys, "__%s__" % name, stream)


def read_config(buffer, length):
    return json.loads(ctypes.string_at(buffer, length).decode("utf-8"))


def preload(buffer):
    """Imports common modules, opens the standard streams and configures logging, once for all instances."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # Not part of this version or build.
    site = importlib.import_module("site")
    site.setquit()
    site.setcopyright()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)
    log_by_default()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_bytes(1)  # The first call allocates tables, which instances then share.
    global AUTHORITIES
    AUTHORITIES = own_module("authorities", "site/sitecustomize.py")
    warm_up(buffer)
    gc.collect()
    if hasattr(sys, "_debugmallocstats"):
        fill_pools()
    if hasattr(gc, "freeze"):
        gc.freeze()


def own_module(name, file):
    """Loads a module of the platform from the directory of this file."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), file)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def log_by_default():
    """Without a handler of the user's, a logger writes what its level lets through, not only warnings; `basicConfig` still works."""
    last = CurrentStandardError()
    last.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    logging.lastResort = last


def fill_pools():
    """Fills the free blocks in partially used pools of Python's allocator.

    A forked child would otherwise allocate in these blocks, which are scattered over shared pages, and each small
    allocation would copy a page (copy-on-write). With full pools, the child allocates in contiguous pages of its own.
    """
    fillers = FILLERS
    for _ in range(3):  # Filling itself allocates and frees objects, so repeat it.
        for size, free in free_blocks():
            if size >= 40:
                fillers.extend([bytes(size - EMPTY_BYTES) for _ in range(free)])
            elif size == 32:
                fillers.extend([(1 << 40) + number for number in range(free)])
            elif size == 16:
                fillers.extend([object() for _ in range(free)])


def free_blocks():
    """Returns each small block size and its number of free blocks in used pools. CPython prints them only to stderr."""
    reader, writer = os.pipe()
    saved = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        sys._debugmallocstats()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    output = os.read(reader, 1 << 16).decode("ascii", "replace")
    os.close(reader)
    rows = re.findall(r"^ +\d+ +(\d+) +\d+ +\d+ +(\d+)$", output, re.M)
    return [(int(size), int(free)) for size, free in rows]


def warm_up(buffer):
    """Runs the lifecycle of an instance with a sample function, in each new process that no request waits for.

    The warm-up run writes to pages shared with the zygote, so that they are copied now and not while a request waits.
    The zygote runs it too, so that objects created on first use are created once and shared.
    """
    own = os.path.dirname(os.path.abspath(__file__))
    path, argv, main_module, known = sys.path[:], sys.argv[:], sys.modules["__main__"], set(sys.path_importer_cache)
    config = encode({
        "environment": {"WARM_UP_%d" % number: "-" * 40 for number in range(24)},
        "context": {"about_%d" % number: "-" * 20 for number in range(10)},
        "handler": "warmup.main_handler",
        "code": own,
        "layers": LAYERS,
        "memory_bytes": None,
        "response_bytes": 1 << 20,
    })
    ctypes.memmove(buffer, config, len(config))
    instance = Instance(read_config(buffer, len(config)))
    instance.become()
    instance.load()
    instance.start_mark = bytearray(MARK)
    instance.answer(bytes(REQUEST.size) + b'{"a": [1, 2.5, null, "text"]}')
    # Restore the state of the process.
    os.environ.clear()
    sys.path[:], sys.argv[:] = path, argv
    sys.modules["__main__"] = main_module
    sys.modules.pop("warmup", None)
    for place in set(sys.path_importer_cache) - known:
        del sys.path_importer_cache[place]


def reseed():
    """Reseeds the random number generators of this process after the fork.

    OpenSSL detects a fork by a changed pid. That is not sufficient here: every instance has the same pid in its own
    pid namespace. Added entropy makes OpenSSL reseed before the next draw. Python reseeds its own generator on fork
    since version 3.7.
    """
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    if not hasattr(os, "register_at_fork"):
        random.seed()


class Instance:
    """The process of an instance: loads the handler, then serves requests one at a time."""

    def __init__(self, config, fresh=False):
        self.config = config
        # Whether this process was started with the function's environment.
        self.fresh = fresh
        self.context = config["context"]
        self.handler = None
        self.names = []
        self.pid = os.getpid()
        self.pending = b""
        self.start_mark = None
        # The last request's further metadata, and what of it the context has.
        self.metadata, self.trace = b"", {}

    def run(self):
        if hasattr(os, "register_at_fork"):
            # Child processes of a handler must not use the platform's pipes.
            os.register_at_fork(after_in_child=close_pipes)
        started = time.perf_counter()
        self.become()
        # A store in memory keeps the interpreter's lock, so no other thread of the user runs between it and the handler.
        self.start_mark = mmap.mmap(START_MARK, MARK)
        os.close(START_MARK)
        status, answer = self.load()
        took = int((time.perf_counter() - started) * 1e6)
        self.flush()
        ready = {"import_us": took}
        if status != OK:
            ready["error"] = answer
        self.send(READY, status, json.dumps(ready).encode("utf-8"))
        if status != OK:
            os._exit(0)
        while True:
            payload = self.receive()
            status, answer = self.answer(payload)
            # The request id in the answer lets the platform discard a stale answer to an earlier request.
            self.send(ANSWER, status, payload[:ID] + answer)

    def become(self):
        """Sets up the environment, limits and import paths that user code expects."""
        global CODE, LAYERS
        CODE, LAYERS = self.config["code"], self.config["layers"]
        if not self.fresh:
            os.environ.clear()
            os.environ.update(self.config["environment"])
            time.tzset()
            sys.dont_write_bytecode = True
        os.umask(0o022)
        memory = self.config["memory_bytes"]
        if memory:
            resource = importlib.import_module("resource")
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        ahead = [CODE] + OWN_PATH + [LAYERS]
        python = os.path.join(LAYERS, "python")
        if os.path.isdir(python):
            ahead.append(python)
        sys.path[0:0] = [place for number, place in enumerate(ahead) if place not in ahead[:number]]
        sys.argv[:] = [os.path.join(CODE, "bootstrap.py")]
        sys.modules["__main__"] = types.ModuleType("__main__")
        AUTHORITIES.install()
        try:
            self.names = os.listdir(CODE)
        except OSError:
            self.names = []
        unshadow(self.names)

    def load(self):
        path, _, name = self.config["handler"].rpartition(".")
        module = path.strip("/").replace("/", ".")
        try:
            if not exists(module):
                return HANDLER_NOT_FOUND, failure("handler file %s.py not found in %s" % (path, CODE))
            loaded = self.import_handler(module)
        except SystemExit as stop:
            self.leave(stop)
        except SyntaxError as error:
            return CODE_ERROR, raised(error)
        except BaseException as error:
            return EXCEPTION, raised(error)
        self.handler = getattr(loaded, name, None)
        if not callable(self.handler):
            return HANDLER_NOT_FOUND, failure("function %s not found in %s.py" % (name, path))
        return OK, None

    def import_handler(self, module):
        """Imports the handler's module. Skips the path search if only one file can match."""
        file = module + ".py"
        known = module in sys.modules or module in sys.builtin_module_names
        if known or [name for name in self.names if name.split(".")[0] == module] != [file]:
            return importlib.import_module(module)
        spec = importlib.util.spec_from_file_location(module, os.path.join(CODE, file))
        loaded = sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return sys.modules[module]

    def answer(self, payload):
        request, number, _deadline, attempt, length = REQUEST.unpack_from(payload)
        begin = REQUEST.size + length
        try:
            context = dict(self.context, request_id=format_id(request), retry_num=attempt)
            metadata = payload[REQUEST.size : begin]
            if metadata != self.metadata:
                self.metadata, self.trace = metadata, trace_of(metadata)
            context.update(self.trace)
            event = json.loads(payload[begin:].decode("utf-8"))
            self.start_mark[:] = number
            answer = self.handler(event, context)
            if os.getpid() != self.pid:
                self.leave(None)  # A child process that the handler forked and that returned from it.
            status, answer = OK, encode(answer)
        except SystemExit as stop:
            self.leave(stop)
        except BaseException as error:
            if os.getpid() != self.pid:
                traceback.print_exc()
                self.leave(None)
            status, answer = EXCEPTION, json.dumps(raised(error)).encode("utf-8")
        if len(answer) > self.config["response_bytes"]:
            text = "response of %d bytes exceeds the limit of %d bytes"
            answer = failure(text % (len(answer), self.config["response_bytes"]))
            status, answer = TOO_LARGE, json.dumps(answer).encode("utf-8")
        self.flush()
        return status, answer

    def leave(self, stop):
        """Exits as `sys.exit` would, but without waiting for threads."""
        code = 0 if stop is None else stop.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
        if os.getpid() == self.pid:
            try:
                atexit._run_exitfuncs()
            except BaseException:
                traceback.print_exc()
        self.flush()
        os._exit((code or 0) & 0xFF)

    @staticmethod
    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass  # User code may have closed or replaced it.

    def receive(self):
        kind, payload = self.read_frame()
        if kind != INVOKE:
            os._exit(1)
        return payload

    def read_frame(self):
        data = self.pending
        while len(data) < HEADER.size:
            data += self.read(1 << 16)
        length, kind, version = HEADER.unpack_from(data)
        if version != VERSION:
            os._exit(1)
        end = HEADER.size + length
        if len(data) < end:
            parts, have = [data], len(data)
            while have < end:
                part = self.read(min(end - have, 1 << 20))
                parts.append(part)
                have += len(part)
            data = b"".join(parts)
        self.pending = data[end:]
        return kind, data[HEADER.size : end]

    @staticmethod
    def read(size):
        data = os.read(REQUESTS, size)
        if not data:
            os._exit(0)  # The platform closed the pipe.
        return data

    @staticmethod
    def send(kind, status, body):
        payload = struct.pack("<H", status) + body
        data = memoryview(HEADER.pack(len(payload), kind, VERSION) + payload)
        while data:
            data = data[os.write(ANSWERS, data) :]


def close_pipes():
    for pipe in (REQUESTS, ANSWERS):
        try:
            os.close(pipe)
        except OSError:
            pass  # User code has closed it.


class CurrentStandardError(logging.StreamHandler):
    """Writes to the current `sys.stderr`, which user code may replace."""

    def emit(self, record):
        self.stream = sys.stderr
        logging.StreamHandler.emit(self, record)


def unshadow(files):
    """Lets user modules shadow preloaded library modules, as they would in a fresh process."""
    own = set(sys.builtin_module_names) | {"os", "sys", "io", "abc", "codecs", "encodings", "site", "builtins"}
    for file in files:
        name = file.split(".")[0]
        if name in sys.modules and name not in own and is_module(file):
            for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                del sys.modules[loaded]


def is_module(file):
    """Returns whether `import` treats an entry of the code directory as a module; data files and directories are not."""
    if "." in file:
        return file[file.index("."):] in MODULE_SUFFIXES
    # A directory without `__init__` is a namespace package, over which every library module takes precedence.
    return any(os.path.isfile(os.path.join(CODE, file, "__init__" + suffix)) for suffix in MODULE_SUFFIXES)


def exists(module):
    """Returns whether the handler's file is in the code or a layer. Library modules are not valid handlers."""
    relative = module.replace(".", "/")
    for root in (CODE, LAYERS):
        base = os.path.join(root, relative)
        if any(os.path.isfile(base + end) for end in (".py", ".pyc", "/__init__.py")):
            return True
        folder, name = os.path.split(base)
        try:
            if any(entry.startswith(name + ".") and entry.endswith(".so") for entry in os.listdir(folder)):
                return True
        except OSError:
            pass
    return False


def format_id(request):
    """Formats a request id as a UUID."""
    digits = request.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def trace_of(metadata):
    """Returns the part of a request's metadata that handlers see: its trace context, if the caller sent one."""
    named = json.loads(metadata.decode("utf-8"))
    return {name: named[name] for name in ("traceparent", "tracestate") if name in named}


def encode(answer):
    try:
        return ENCODE(answer).encode("utf-8")
    except UnicodeEncodeError:  # A lone surrogate.
        return json.dumps(answer).encode("utf-8")


def failure(message):
    return {"message": message}


def raised(error):
    """Builds the report of an exception. The stack trace starts at the first frame of user code."""
    frames = error.__traceback__
    while frames is not None and not frames.tb_frame.f_code.co_filename.startswith((CODE, LAYERS)):
        frames = frames.tb_next
    stack = "".join(traceback.format_exception(type(error), error, frames))
    if len(stack) > STACK_MAX:
        stack = stack[: STACK_MAX // 2] + "\n...\n" + stack[-STACK_MAX // 2 :]
    return {"message": "user code exception caught", "stack": stack}


main()
