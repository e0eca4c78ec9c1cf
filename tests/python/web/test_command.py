# SPDX-License-Identifier: MIT
"""`cxxloop serve`: flags, variables, sockets, signals and exit codes, with real processes."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request

import pytest
from program import Program, write

from cxxloop.web import Config
from cxxloop.web.option import options_of, variable_of

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")


def flags_and_names():
    return [(setting.flag_of(name), name) for name, setting in options_of(Config).items() if not setting.in_code_only]


# --- help, flags, variables ----------------------------------------------------------------------------------------------


def test_help_lists_every_flag_under_a_heading(command):
    result = command("--help")
    assert result.returncode == 0 and result.stderr == ""
    for flag, name in flags_and_names():
        assert re.search(rf"^  {flag}\b", result.stdout, re.MULTILINE), name
    for heading in ("Where to listen", "Processes", "HTTP", "WebSocket", "Time limits", "Limits", "Logging", "Metrics", "TLS"):
        assert f"\n{heading}:\n" in result.stdout


def test_documentation_lists_every_setting():
    page = os.path.join(os.path.dirname(__file__), "../../../docs/serving.md")
    with open(page, encoding="utf-8") as file:
        text = file.read()
    for flag, name in flags_and_names():
        setting = options_of(Config)[name]
        row = re.search(rf"^\| `{flag}` \|(.*)\|$", text, re.MULTILINE)
        assert row, f"{flag} has no row"
        default = setting.default
        if setting.shown_default is None and default not in (None, "", []) and not isinstance(default, bool):
            shown = f"{default:g}" if isinstance(default, float) else f"{default:,}" if not isinstance(default, str) else default
            assert f" {shown} |" in row[0], f"{flag}: {shown}"
    rows = set(re.findall(r"^\| `(--[\w-]+)` \|", text, re.MULTILINE))
    assert rows - {flag for flag, _ in flags_and_names()} == {"--no-access-log"}  # its row tells how a flag is switched off


def test_every_flag_of_uvicorn_is_accepted(command):
    main = pytest.importorskip("uvicorn.main").main
    ours = {flag for flag, _ in flags_and_names()} | {"--version"}
    theirs = {flag for param in main.params for flag in param.opts if flag.startswith("--")}
    assert theirs - ours == {"--http2"}


def test_version(command):
    assert re.match(r"Running cxxloop \d+\.\d+\.\d+ with CPython 3\.\d+\.\S+ on Linux\n$", command("--version").stdout)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--port", "70000"], "Error: Invalid value for --port: must be at least 0 and at most 65535, not 70000"),
        (["--port", "web"], "Error: Invalid value for --port: must be a whole number, not 'web'"),
        (["--lifespan", "maybe"], "Error: Invalid value for --lifespan: must be one of auto, on, off, not 'maybe'"),
        (["--static", "public"], "Error: Invalid value for --static: must be MOUNT=FOLDER, not 'public'"),
        (["--static", "a=."], "Error: Invalid value for --static: 'a' is no path of a URL: it must begin with '/'"),
        (["--static", "/a=nothing"], "Error: Invalid value for --static: 'nothing' is no folder"),
        (["--admin", "9000"], "Error: Invalid value for --admin: must be HOST:PORT, not '9000'"),
        (["--admin", "::1:9000"], "Error: Invalid value for --admin: must be HOST:PORT, an IPv6 address in brackets, not '::1:9000'"),
        (["--header", "X-A"], "Error: Invalid value for --header: must be NAME:VALUE, not 'X-A'"),
        (["--uds", "a", "--fd", "3"], "Error: Invalid value for --fd: cannot be given together with uds"),
        (["--health-path", "up"], "Error: Invalid value for --health-path: must begin with '/', not 'up'"),
        (["--log-level", "loud"], "Error: Invalid value for --log-level: must be one of critical, error"),
        (["--no-such-flag"], "Error: No such option"),
    ],
)
def test_wrong_flag_is_one_line(capsys, flags, line):
    pytest.importorskip("click")
    from cxxloop.web.command import make_command

    with pytest.raises(SystemExit) as end:
        make_command().main(args=["app:app", *flags], prog_name="serve")
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)


def test_wrong_variable_is_one_line(command):
    result = command("app:app", env={"CXXLOOP_BACKLOG": "many"})
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "Error: Invalid value for CXXLOOP_BACKLOG: must be a whole number, not 'many'"


def test_command_without_click_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('none here')\n")
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    result = subprocess.run(
        [sys.executable, "-m", "cxxloop", "serve", "app:app"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stderr) == (1, "cxxloop: serve needs click: pip install 'cxxloop[web]'\n")


def parsed(monkeypatch, arguments, variables):
    """What run() is called with for some flags and variables."""
    pytest.importorskip("click")
    from cxxloop.web import command as module

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(module, "run", lambda app, **settings: calls.append((app, settings)))
    module.make_command().main(args=arguments, prog_name="serve", standalone_mode=False)
    return calls[0]


# A value for each kind of setting, as text, and what it becomes.
EXAMPLES = {
    "port": ("81", 81),
    "fd": ("9", 9),
    "headers": ("X-A: b c", [("X-A", "b c")]),
    "reload_dirs": (".", ["."]),
    "env_file": (".", "."),
    "static": ("/a=.", [("/a", ".")]),
    "uds_permissions": ("600", "600"),
    "interface": ("wsgi", "wsgi"),
    "lifespan": ("off", "off"),
    "limit_headers": ("7", 7),
    "ssl_cert_reqs": ("1", 1),
    "ssl_engine": ("python", "python"),
    "access_log_sample": ("0.5", 0.5),
    "root_path": ("/x", "/x"),
    "health_path": ("/x", "/x"),
    "log_level": ("debug", "debug"),
}


def example_of(name, setting):
    if name in EXAMPLES:
        return EXAMPLES[name]
    if isinstance(setting.default, bool) or "BOOLEAN" in setting.kind.metavar:
        wanted = not setting.default
        return str(wanted).lower(), wanted
    if setting.kind.metavar == "HOST:PORT":
        return "[::1]:80", ("::1", 80)
    if "NUMBER" in setting.kind.metavar or "BYTES" in setting.kind.metavar:
        return "17", 17
    if "SECONDS" in setting.kind.metavar:
        return "17.5", 17.5
    return "text", ["text"] if isinstance(setting.default, list) else "text"


@pytest.mark.parametrize("name", [name for _, name in flags_and_names()])
def test_setting_has_flag_and_variable(monkeypatch, name):
    setting = options_of(Config)[name]
    text, value = example_of(name, setting)
    app, settings = parsed(monkeypatch, ["a:b"], {variable_of(name): text})
    assert app == "a:b" and settings == {"app_dir": ".", name: value}
    flag = setting.flag_of(name)
    if isinstance(value, bool) and not getattr(setting.kind, "takes_value", False):
        arguments = [flag if value else f"--no-{flag[2:]}"]
    else:
        arguments = [flag, text]
    _, settings = parsed(monkeypatch, ["a:b", *arguments], {variable_of(name): "nonsense"})
    assert settings == {"app_dir": ".", name: value}
    if name != "env_file":  # is read at once
        Config("a:b", **settings)


def test_repeated_flag_and_lines_of_variable(monkeypatch):
    _, settings = parsed(monkeypatch, ["a:b", "--header", "X-A: 1", "--header", "X-B:2"], {})
    assert settings["headers"] == [("X-A", "1"), ("X-B", "2")]
    _, settings = parsed(monkeypatch, ["a:b"], {"CXXLOOP_HEADERS": "X-A: one two\nX-B: 2\n"})
    assert settings["headers"] == [("X-A", "one two"), ("X-B", "2")]


def test_application_comes_from_variable(monkeypatch):
    assert parsed(monkeypatch, [], {"CXXLOOP_APP": "c:d"})[0] == "c:d"


# --- serving -------------------------------------------------------------------------------------------------------------


def test_log_of_a_whole_life_is_uvicorns(serve):
    program = serve()
    port = program.port()
    assert program.get() == (200, str(program.process.pid))
    program.wait_for('"GET / HTTP/1.1" 200 OK')
    assert program.end() == 0
    lines = [re.sub(r"127\.0\.0\.1:(?!%d\b)\d+" % port, "CLIENT", line) for line in program.lines]
    pid = program.process.pid
    assert lines == [
        f"INFO:     Started server process [{pid}]",
        "INFO:     Waiting for application startup.",
        "INFO:     Application startup complete.",
        f"INFO:     cxxloop serving on http://127.0.0.1:{port} (Press CTRL+C to quit)",
        'INFO:     CLIENT - "GET / HTTP/1.1" 200 OK',
        "INFO:     Shutting down",
        "INFO:     Waiting for application shutdown.",
        "INFO:     Application shutdown complete.",
        f"INFO:     Finished server process [{pid}]",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_lets_running_request_end(serve, number):
    program = serve()
    response = program.get_later("/hold")
    program.wait_for("^holding")
    program.send(number)
    program.wait_for("Waiting for connections to close")
    with pytest.raises(ConnectionRefusedError):
        program.get()
    program.let_go()
    assert response()[0] == 200
    assert program.wait() == (-signal.SIGHUP if number == signal.SIGHUP else 0)
    program.wait_for("Application shutdown complete")


def test_second_signal_forces(serve):
    program = serve()
    program.get_later("/hold")
    program.wait_for("^holding")
    program.send(signal.SIGTERM)
    program.wait_for("Waiting for connections to close")
    assert program.end() == 0
    assert "Waiting for application shutdown" not in program.log


def test_ignored_hangup_stays_ignored(serve, tmp_path):
    shell = f"trap '' HUP; exec {sys.executable} -m cxxloop serve app:app --port 0"
    program = Program(tmp_path, ["bash", "-c", shell])
    try:
        program.port()
        program.send(signal.SIGHUP)
        assert program.get()[0] == 200
        assert program.end() == 0
    finally:
        program.close()


def test_handler_of_the_program_is_called_after_the_server_has_ended(script):
    program = script(
        """
        import signal
        import cxxloop.web

        signal.signal(signal.SIGTERM, lambda number, frame: print("handler of the program", flush=True))
        cxxloop.web.run("app:app", port=0)
        print("over")
        """
    )
    program.port()
    assert program.end() == 0
    assert program.lines[-3].startswith("INFO:     Finished server process")
    assert program.lines[-2:] == ["handler of the program", "over"]


def test_signals_end_a_server_that_is_blocked(serve):
    program = serve()
    program.get_later("/block")
    program.wait_for("^blocking")
    while program.process.poll() is None:  # the third one kills; those that come too fast are one
        program.send(signal.SIGTERM)
        try:
            program.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert program.wait() == -signal.SIGTERM


def test_request_that_takes_too_long_is_cancelled(serve):
    program = serve("--timeout-graceful-shutdown", "0.2")
    program.get_later("/hold")
    program.wait_for("^holding")
    assert program.end() == 0
    program.wait_for(r"^ERROR: +Cancel 1 running task\(s\), timeout graceful shutdown exceeded$")
    program.wait_for("Application shutdown complete")


def test_limit_of_requests_ends_the_server(serve):
    program = serve("--limit-max-requests", "2")
    program.get()
    program.get()
    assert program.wait() == 0
    program.wait_for("Maximum request limit of 2 exceeded. Terminating process.")


# --- applications --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("app", 'Error loading ASGI app. Import string "app" must be in format "<module>:<attribute>".'),
        ("nothing:app", 'Error loading ASGI app. Could not import module "nothing".'),
        ("app:nothing", 'Error loading ASGI app. Attribute "nothing" not found in module "app".'),
        ("number:number", "Error loading ASGI app. The application is no callable but int."),
    ],
)
def test_wrong_import_string_is_one_line(serve, tmp_path, target, line):
    write(tmp_path, "number.py", "number = 5\n")
    program = serve(target=target)
    assert program.wait() == 1
    assert [text for text in program.lines if "Started server" not in text] == [f"ERROR:    {line}"]


def test_error_in_module_shows_its_traceback(serve, tmp_path):
    write(tmp_path, "broken.py", "1 / 0\n")
    program = serve(target="broken:app")
    assert program.wait() == 1
    assert program.lines[-1] == "ZeroDivisionError: division by zero"


def test_failed_lifespan_exits_with_3(serve, tmp_path):
    write(
        tmp_path,
        "failing.py",
        """
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
        """,
    )
    program = serve(target="failing:app")
    assert program.wait() == 3
    assert program.lines[-2:] == ["ERROR:    no database", "ERROR:    Application startup failed. Exiting."]


def test_factory_in_another_folder(serve, tmp_path):
    write(tmp_path, "inner/made.py", "from app import app\n\ndef make():\n    return app\n")
    program = serve("--factory", "--app-dir", "inner", target="made:make", env={"PYTHONPATH": path_with(tmp_path)})
    assert program.get()[0] == 200


def path_with(folder):
    return os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])


def test_wsgi_application(serve, tmp_path):
    write(
        tmp_path,
        "classic.py",
        """
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode()]
        """,
    )
    program = serve(target="classic:app")
    assert program.get("/some/path") == (200, "/some/path")
    program.wait_for("ASGI 'lifespan' protocol appears unsupported.")


def test_module_may_run_a_loop_while_it_is_imported(serve, tmp_path):
    write(tmp_path, "early.py", "import asyncio\nfrom app import app\n\nasyncio.run(asyncio.sleep(0))\n")
    assert serve(target="early:app").get()[0] == 200


def test_health_is_answered_without_the_application(serve, tmp_path):
    program = serve("--health-path", "/healthz", "--limit-concurrency", "1")
    assert program.get("/healthz") == (200, "ok\n")
    assert program.get("/")[0] == 503  # as uvicorn: the connection of the request is the first one
    assert program.end() == 0
    assert "GET" not in program.log


def test_settings_of_static_files(serve, tmp_path):
    write(tmp_path, "files/.hidden", "secret")
    write(tmp_path, "files/plain.txt", "plain")
    (tmp_path / "files/link.txt").symlink_to("plain.txt")
    program = serve("--static", "/s=files")
    assert program.get("/s/plain.txt") == (200, "plain")
    assert [program.get(f"/s/{name}")[0] for name in ("link.txt", ".hidden")] == [404, 404]
    flags = ["--static-follow-links", "--static-dotfiles", "--static-cache-control", "max-age=60"]
    program = serve("--static", "/s=files", *flags)
    assert program.get("/s/link.txt") == (200, "plain")
    assert program.get("/s/.hidden") == (200, "secret")
    with urllib.request.urlopen(f"http://127.0.0.1:{program.port()}/s/plain.txt") as response:
        assert response.headers["Cache-Control"] == "max-age=60"


# --- sockets -------------------------------------------------------------------------------------------------------------


def test_taken_port_is_one_line(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = serve(port=str(port))
        assert program.wait() == 1
        assert program.lines[-1] == f"ERROR:    [Errno 98] cannot listen on 127.0.0.1:{port}: address already in use"
        assert "Waiting for application startup" not in program.log


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
@pytest.mark.parametrize("name", ["missing.pem", "empty.pem"])
def test_unreadable_certificate_is_one_line(serve, tmp_path, workers, name):
    (tmp_path / "empty.pem").touch()
    program = serve("--ssl-certfile", name, *workers)
    assert program.wait() == 1
    reason = "cannot read 'missing.pem': No such file or directory" if name == "missing.pem" else "cannot use 'empty.pem': .*"
    assert len(program.lines) == 1 and re.fullmatch(f"ERROR:    ssl_certfile: {reason}", program.lines[0])


def test_taken_port_with_workers_is_one_line(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = serve("--workers", "2", port=str(port))
        assert program.wait() == 1
        assert program.lines == [f"ERROR:    [Errno 98] cannot listen on 127.0.0.1:{port}: address already in use"]


def test_unknown_host_is_one_line(serve):
    program = serve("--host", "no-such-host.invalid")
    assert program.wait() == 1
    assert program.lines[-1].startswith("ERROR:    [Errno ") and "cannot listen on no-such-host.invalid:0: " in program.lines[-1]


def test_host_of_two_families_has_one_port(serve):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    program = serve("--host", "::")
    port = int(program.wait_for(r"serving on http://\[::\]:(\d+) ")[1])
    with socket.create_connection(("::1", port)):
        pass


def test_unix_socket_has_permissions_and_is_removed(serve, tmp_path):
    program = serve("--uds", "app.sock", "--uds-permissions", "600", port=None)
    program.wait_for(r"serving on unix socket app.sock \(Press CTRL\+C to quit\)")
    path = tmp_path / "app.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert program.get_unix(str(path))[0] == 200
    program.end()
    assert not path.exists()


def test_stale_unix_socket_is_replaced(serve, tmp_path):
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        path.chmod(0o640)
    program = serve("--uds", "app.sock", port=None)
    program.wait_for("serving on unix socket")
    assert program.get_unix(str(path))[0] == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_unix_socket_of_another_server_is_left_alone(serve, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "app.sock"))
        other.listen()
        program = serve("--uds", "app.sock", port=None)
        assert program.wait() == 1
        assert program.lines[-1] == "ERROR:    cannot listen on unix socket app.sock: a server listens there"
    assert (tmp_path / "app.sock").exists()


def test_file_is_no_unix_socket(serve, tmp_path):
    (tmp_path / "app.sock").write_text("precious")
    program = serve("--uds", "app.sock", port=None)
    assert program.wait() == 1
    assert program.lines[-1] == "ERROR:    cannot listen on unix socket app.sock: a file that is no socket is there"
    assert (tmp_path / "app.sock").read_text() == "precious"


def test_inherited_descriptor(serve):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = serve("--fd", str(listener.fileno()), port=None, pass_fds=[listener.fileno()])
        program.wait_for(r"serving on socket \('127.0.0.1', \d+\) \(Press")
        assert program.get(port=listener.getsockname()[1])[0] == 200
        program.end()


@pytest.mark.parametrize(("kind", "reason"), [("closed", "bad file descriptor"), ("file", "non-socket"), ("connected", "no listening")])
def test_wrong_descriptor_is_one_line(serve, kind, reason):
    left, right = socket.socketpair()
    with left, right, open(os.devnull) as file:
        fd = {"closed": 199, "file": file.fileno(), "connected": left.fileno()}[kind]
        program = serve("--fd", str(fd), port=None, pass_fds=[] if kind == "closed" else [fd])
        assert program.wait() == 1
    assert re.search(f"^ERROR: .*cannot listen on descriptor {fd}: .*{reason}", program.lines[-1])


def test_socket_of_systemd(serve, tmp_path):
    # systemd passes descriptors from 3 on, and the process id of the service.
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        fds = [first.fileno(), second.fileno()]
        shell = f"exec 8<&{fds[0]} 9<&{fds[1]} 3<&8 4<&9; LISTEN_PID=$$ LISTEN_FDS=2 exec {sys.executable} -m cxxloop serve app:app"
        program = Program(tmp_path, ["bash", "-c", shell], pass_fds=fds)
        try:
            program.wait_for(r"serving on socket \('127.0.0.1'")
            for listener in (first, second):
                assert program.get(port=listener.getsockname()[1])[0] == 200
            assert program.end() == 0
        finally:
            program.close()


def test_folder_of_unix_socket_must_exist(serve):
    program = serve("--uds", "nowhere/app.sock", port=None)
    assert program.wait() == 1
    assert program.lines[-1] == "ERROR:    [Errno 2] cannot listen on unix socket nowhere/app.sock: no such file or directory"


def test_missing_certificate_is_one_line(serve):
    program = serve("--ssl-certfile", "missing.pem")
    assert program.wait() == 1
    assert program.lines == ["ERROR:    ssl_certfile: cannot read 'missing.pem': No such file or directory"]


# --- embedding -----------------------------------------------------------------------------------------------------------


def test_serve_in_a_running_loop(script):
    program = script(
        """
        import cxxloop, cxxloop.web
        from app import app

        async def main():
            print("main", flush=True)
            await cxxloop.web.serve(app, port=0, lifespan="off")

        cxxloop.run(main())
        """
    )
    assert program.get()[0] == 200
    assert program.end(signal.SIGINT) == -signal.SIGINT  # raised again: a KeyboardInterrupt of the program


def test_server_is_started_and_ended_by_hand(script):
    program = script(
        """
        import asyncio, threading, cxxloop
        from cxxloop.web import Config, Server

        async def main():
            server = Server(Config("app:app", port=0))
            assert not server.started
            await server.startup()
            assert server.started
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
            print(await reader.readline())
            writer.close()
            assert server.counters["requests"] == 1
            await server.shutdown()
            await server.shutdown()
            try:
                await server.startup()
            except RuntimeError as error:
                print(error)
            try:
                await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                print("closed")

        cxxloop.run(main())
        """
    )
    assert program.wait() == 0, program.log
    program.wait_for(r"HTTP/1.1 200")
    program.wait_for("the server has served before; make another one")
    program.wait_for("^closed")


def test_another_thread_ends_the_server(script):
    program = script(
        """
        import threading, cxxloop
        from cxxloop.web import Config, Server

        asked = threading.Event()

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            asked.set()

        async def main():
            server = Server(Config(app, port=0, lifespan="off"))

            def end():
                asked.wait()
                server.should_exit = True

            threading.Thread(target=end).start()
            await server.serve()
            print("over")

        cxxloop.run(main())
        """
    )
    assert program.get()[0] == 204
    assert program.wait() == 0
    program.wait_for("^over")


def test_other_loop_is_refused(script):
    program = script(
        """
        import asyncio, cxxloop.web

        asyncio.run(cxxloop.web.serve("app:app"))
        """
    )
    assert program.wait() == 1
    assert re.match(
        r"RuntimeError: cxxloop.web serves on cxxloop's event loop, not on asyncio\.\S+: start the program with cxxloop.run\(\)$",
        program.lines[-1],
    )


def test_processes_are_refused_inside_a_loop(script):
    program = script('import cxxloop, cxxloop.web\ncxxloop.run(cxxloop.web.serve("app:app", workers=2))\n')
    assert program.wait() == 1
    assert program.lines[-1].endswith("workers: needs processes: use cxxloop.web.run() or the command")


def test_run_is_uvicorns(script):
    program = script('import cxxloop.web\nfrom app import app\n\ncxxloop.web.run(app, port=0, access_log=False)\nprint("over")\n')
    assert program.get()[0] == 200
    assert program.end(signal.SIGINT) == 0
    assert "over" in program.lines and "GET /" not in program.log


@pytest.mark.parametrize("setting", ["workers=2", "reload=True"])
def test_processes_need_an_import_string(script, setting):
    program = script(f"import cxxloop.web\nfrom app import app\n\ncxxloop.web.run(app, {setting})\n")
    assert program.wait() == 1
    assert program.lines == ["WARNING:  You must pass the application as an import string to enable 'reload' or 'workers'."]


# --- the log of a process ------------------------------------------------------------------------------------------------


def test_access_log_as_json(serve):
    program = serve("--access-log-format", "json")
    program.get("/x?y=1")
    line = json.loads(program.wait_for(r"^\{.*\}$")[0])
    assert (line["method"], line["path"], line["query"], line["status"]) == ("GET", "/x", "y=1", 200)


def test_exception_of_application_is_logged(serve, tmp_path):
    write(tmp_path, "failing.py", "async def app(scope, receive, send):\n    raise ValueError('broken')\n")
    program = serve(target="failing:app")
    assert program.get()[0] == 500
    program.wait_for("^ERROR: +Exception in ASGI application")
    program.wait_for("^ValueError: broken")


def test_trace_shows_every_message(serve):
    program = serve("--log-level", "trace")
    program.get()
    program.wait_for(r"^TRACE: +127\.0\.0\.1:\d+ - ASGI \[\d+\] Send \{'type': 'http.response.start', 'status': 200, 'headers': '<...>'\}")
    program.wait_for(r"Completed$")
