# SPDX-License-Identifier: MIT
"""Every name of every native type, called and assigned wrongly, on objects that are whole and on some that are not."""

import sys

import pytest

WALK = """
    import contextlib, gc, os, signal, socket, ssl, sys, warnings
    import cxxloop
    from cxxloop import _core

    kind, where = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
    warnings.simplefilter("ignore")
    signal.alarm(60)
    sys.stderr = open(os.devnull, "w")
    sys.unraisablehook = lambda unraisable: None

    class Loops:
        # A loop with something to run, so that no turn sleeps.
        def new(self):
            loop = new_loop()
            loop.set_exception_handler(lambda loop, context: None)
            loop.call_soon(loop.stop)
            loop.call_later(0, loop.stop)
            return loop

        def blank(self):
            return cxxloop.Loop.__new__(cxxloop.Loop)

    loops = Loops()
    helper = loops.new()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    a, b = socket.socketpair()

    def stream(loop=None):
        loop = loop or loops.new()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport = loop._make_stream_transport(ours, asyncio.Protocol(), None, None, None, None)
        transport.peer = theirs
        return transport

    def datagram(loop=None):
        loop = loop or loops.new()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        return loop._make_native_datagram_transport(sock, asyncio.DatagramProtocol(), None, None, {})

    def pipe(number):
        from cxxloop import _pipes
        made = os.pipe()
        files = [os.fdopen(made[0], "rb", 0), os.fdopen(made[1], "wb", 0)]
        class_ = (_pipes.ReadPipeTransport, _pipes.WritePipeTransport)[number]
        transport = class_(loops.new(), files[number], asyncio.Protocol())
        transport.__dict__["peer"] = files[1 - number]
        return transport

    def tls():
        from cxxloop import _tls
        loop = loops.new()
        protocol = _tls.SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future(), False, "x")
        protocol.connection_made(stream(loop))
        return protocol

    def sock_op():
        return loops.new()._native_sock_recv(a, 10)

    def blank(class_):
        return lambda: class_.__new__(class_)

    def derived(class_):
        return lambda: type("Derived", (class_,), {})()

    def blank_pipe(number):
        from cxxloop import _pipes
        return blank((_pipes.ReadPipeTransport, _pipes.WritePipeTransport)[number])()

    def blank_tls():
        from cxxloop import _tls
        return blank(_tls.SSLProtocol)()

    kinds = {
        "loop": loops.new,
        "closed loop": lambda: (lambda loop: (loop.close(), loop)[1])(loops.new()),
        "blank loop": loops.blank,
        "blank native loop": blank(_core.Loop),
        "handle": lambda: loops.new().call_soon(int),
        "timer": lambda: loops.new().call_later(1, int),
        "handle of a thread": lambda: loops.new().call_soon_threadsafe(int),
        "stream": stream,
        "datagram": datagram,
        "read pipe": lambda: pipe(0),
        "write pipe": lambda: pipe(1),
        "blank read pipe": lambda: blank_pipe(0),
        "blank write pipe": lambda: blank_pipe(1),
        "blank native read pipe": blank(_core.ReadPipe),
        "blank native write pipe": blank(_core.WritePipe),
        "pipe buffer": _core.PipeBuffer,
        "tls": tls,
        "blank tls": blank_tls,
        "blank native tls": blank(_core.TlsProtocol),
        "sock op": sock_op,
        "derived transport": derived(_core.SocketTransport),
        "derived loop": derived(_core.Loop),
        "derived tls": derived(_core.TlsProtocol),
        "module": lambda: _core,
    }
    make = kinds[kind]

    class Surprise:
        def __getattr__(self, name):
            return self

        def __call__(self, *args, **keywords):
            return self

        def fileno(self):
            return a.fileno()

    def junk():
        global a, b
        if a.fileno() < 0:
            a, b = socket.socketpair()
        return [None, -1, 2**70, "x", b"x", object(), Surprise(), a, helper, int, _core.Loop, _core.StreamTransport, handle]

    handle = helper.call_soon(int)
    helper.call_soon_threadsafe(int)
    skipped = {"__class__", "run_forever", "run_until_complete", "__init_subclass__", "__subclasshook__", "add_signal_handler"}
    # Not ours, and they wait for a thread or a process.
    skipped |= {"run_in_executor", "getaddrinfo", "getnameinfo", "shutdown_default_executor"}

    def attempt(name, what, *args):
        os.pwrite(where, f"{kind}.{name} {what} {args and args[-1]!r}".encode()[:200].ljust(200), 0)
        with contextlib.suppress(BaseException):
            target = make()
            if what == "call":
                result = getattr(target, name)(*args[0])
                if hasattr(result, "close") and hasattr(result, "cr_frame"):
                    result.close()
            elif what == "set":
                setattr(target, name, args[0])
            elif what == "delete":
                delattr(target, name)
            if what != "call":
                repr(target)
                for later in ("close", "abort", "cancel", "_run_once", "_read_ready", "_write_ready", "_do_read", "_do_write"):
                    with contextlib.suppress(BaseException):
                        getattr(target, later)()

    try:
        names = sorted(set(dir(make())) - skipped)
    except TypeError:
        names = []
    for name in names:
        values = junk()
        attempt(name, "call", ())
        for value in values:
            if kind != "module":
                attempt(name, "set", value)
            # A socket as the first of six gets past the first check of what makes transports.
            for arguments in ((value,), (value,) * 2, (value,) * 6, (a, *(value,) * 5)):
                attempt(name, "call", arguments)
        for count in range(1, 9):
            attempt(name, "call", tuple(values[:count]))
            attempt(name, "call", tuple(values[5:5 + count]))
        if kind != "module":
            attempt(name, "delete")
        gc.collect()
    print("survived")
    sys.stdout.flush()
    os._exit(0)
"""
KINDS = (
    "loop",
    "closed loop",
    "blank loop",
    "blank native loop",
    "handle",
    "timer",
    "handle of a thread",
    "stream",
    "datagram",
    "read pipe",
    "write pipe",
    "blank read pipe",
    "blank write pipe",
    "blank native read pipe",
    "blank native write pipe",
    "pipe buffer",
    "tls",
    "blank tls",
    "blank native tls",
    "sock op",
    "derived transport",
    "derived loop",
    "derived tls",
    "module",
)


@pytest.mark.cxxloop_only("names of native types")
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_calls_of_any_name_end_in_exceptions(run_script, tmp_path, kind):
    last = tmp_path / "last"
    result = run_script(WALK, kind, str(last), check=False)
    assert result.stdout == "survived\n", (result.returncode, last.read_bytes().strip(), result.stderr[-2000:])
