# SPDX-License-Identifier: MIT
"""Static files: what is found, what is refused, conditions, ranges, codings, and the ways to send."""

import asyncio
import email.utils
import gc
import os
import random
import re
import socket
import stat
import threading
import time

import pytest
from asgi_driver import call

import cxxloop
from cxxloop.web import folder
from cxxloop.web.folder import Folder
from cxxloop.web.static import Mounts, StaticFiles

LONG = bytes(range(256)) * 1024  # longer than what leaves together with its head
MTIME = 1_700_000_000
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner(loop_factory=cxxloop.new_event_loop) as runner:
        yield runner


@pytest.fixture
def run(runner):
    """Runs a coroutine to its end on one loop of the module, or fails after `timeout` seconds."""

    def run(main, *, timeout=10):
        return runner.run(asyncio.wait_for(main, timeout))

    return run


@pytest.fixture(params=["openat2", "portable"])
def opener(request, monkeypatch):
    """Both ways to open a file; openat2() where the kernel has it."""
    if request.param == "portable":
        monkeypatch.setattr(folder, "_make_openat2", lambda root_fd, follow_links: None)
    return request.param


@pytest.fixture
def public(tmp_path):
    """The folder that is served, beside a secret."""
    root = tmp_path / "public"
    for name in ("sub/deep", "docs", ".hidden"):
        (root / name).mkdir(parents=True)
    files = {
        "a.txt": b"hello, world",
        "long.bin": LONG,
        "empty.txt": b"",
        "sub/deep/b.html": b"<p>b</p>",
        "docs/index.html": b"<p>docs</p>",
        "index.html": b"<p>root</p>",
        ".secret": b"dot",
        ".hidden/c.txt": b"dot",
        "\u00fc %41.txt": b"umlaut",
        "back\\slash.txt": b"served nowhere",
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
        os.utime(root / name, (MTIME, MTIME))
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return root


@pytest.fixture
def get(run, opener, public):
    """One request to StaticFiles(public, **settings)."""

    def get(target, method="GET", headers=None, *, settings=None, **changes):
        return run(call(StaticFiles(public, **(settings or {})), target, method, headers, **changes))

    return get


# --- finding -------------------------------------------------------------------------------------------------------------


def test_file_is_sent_whole(get):
    answer = get("/a.txt")
    assert (answer.status, answer.body) == (200, b"hello, world")
    etag = answer.headers.pop("etag")
    assert re.fullmatch('"[0-9a-f]+-c-[0-9a-f]+"', etag)
    assert answer.headers == {
        "last-modified": DATE,
        "vary": "accept-encoding",
        "accept-ranges": "bytes",
        "content-type": "text/plain; charset=utf-8",
        "content-length": "12",
    }
    assert len(answer.messages) == 2


def test_head_is_get_without_a_body(get):
    for target in ("/a.txt", "/long.bin", "/nothing"):
        answer, head = get(target), get(target, "HEAD")
        assert (head.status, head.pairs, head.body) == (answer.status, answer.pairs, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods_are_refused(get, method):
    for target in ("/a.txt", "/nothing"):
        answer = get(target, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_name_is_taken_as_it_is(get):
    assert get("/\u00fc %41.txt").body == b"umlaut"
    assert get("/sub/deep/b.html").body == b"<p>b</p>"
    assert get("/A.TXT").status == 404


@pytest.mark.parametrize(
    "target",
    [
        "*",
        "a.txt",
        "//a.txt",
        "/sub//deep/b.html",
        "/a.txt/",
        "/a.txt/b",
        "/sub",
        "/sub/",
        "/..",
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/sub/../a.txt",
        "/./a.txt",
        "/sub/.",
        "/..\\secret.txt",
        "/sub\\deep\\b.html",
        "/back\\slash.txt",
        "/\\..\\secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/a.txt\0",
        "/\0",
        "/a.txt\0.png",
        "/.secret",
        "/.hidden/c.txt",
        "/sub/.nothing",
        "/\udcff",
        "/" + "n" * 300,
        "/" + "n/" * 3000 + "n",
        "/...",
        "/a.txt ",
        "/a.txt;x",
        "//etc/passwd",
        "/etc/passwd",
        "/~root",
    ],
)
@pytest.mark.parametrize("html", [False, True])
def test_everything_else_is_absent(get, target, html):
    for method in ("GET", "HEAD"):
        answer = get(target, method, settings={"html": html})
        assert answer.status == 404 and b"secret" not in answer.body


def test_absolute_path_does_not_leave_the_folder(get, tmp_path):
    for prefix in ("/", "//", "/../" * 20, ""):
        assert get(f"{prefix}{tmp_path}/secret.txt").status == 404


@pytest.mark.parametrize("settings", [{}, {"html": True}, {"dotfiles": True}, {"follow_links": True, "dotfiles": True, "html": True}])
def test_no_random_path_leads_outside(run, opener, public, tmp_path, settings):
    """Everything below the folder says so; whatever else is found is a leak."""
    for path in public.rglob("*"):
        if path.is_file():
            path.write_bytes(b"public")
    (public / "up").symlink_to("..")
    (public / "sub/up").symlink_to("../..")
    (tmp_path / "index.html").write_bytes(b"secret")
    application = StaticFiles(public, **settings)
    words = ["..", ".", "", "/", "\\", "%2e%2e", "%2f", "..;", "...", "\0", "\uff0e\uff0e", "\u2215", "~", "\udcae\udcae"]
    words += ["sub", "deep", "public", "a.txt", "docs", "index.html", "etc", "passwd", "proc", "self", "root", str(tmp_path)]
    words += ["up", "secret.txt"] * 5
    choose = random.Random(len(settings))
    statuses = set()

    async def main():
        for _ in range(1500):
            parts = choose.choices(words, k=choose.randint(1, 6))
            answer = await call(application, "/" + choose.choice(["/", "/", "/", "", "\\"]).join(parts).replace("?", ""))
            statuses.add(answer.status)
            assert answer.status != 200 or answer.body == b"public", parts

    run(main(), timeout=30)
    assert {200, 404} <= statuses <= {200, 301, 404}


def test_dot_files_are_served_if_told(get):
    told = {"dotfiles": True}
    assert get("/.secret", settings=told).body == b"dot"
    assert get("/.hidden/c.txt", settings=told).body == b"dot"
    for target in ("/..", "/../secret.txt", "/.", "/./a.txt", "/sub/../a.txt"):
        assert get(target, settings=told).status == 404


def test_below_a_root_path(get):
    assert get("/static/a.txt", root_path="/static").body == b"hello, world"
    assert get("/a.txt", root_path="/static").body == b"hello, world"
    assert get("/statica.txt", root_path="/static").status == 404


def test_websocket_is_closed_and_lifespan_refused(run, public):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    application = StaticFiles(public)
    run(application({"type": "websocket", "path": "/a.txt"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]
    with pytest.raises(RuntimeError):
        run(application({"type": "lifespan"}, receive, send))


# --- links, special files, races -----------------------------------------------------------------------------------------


@pytest.fixture
def links(public, tmp_path):
    """Links that stay inside, and links that do not."""
    inside = {"in": "a.txt", "sub/up": "../a.txt", "chain": "in", "subdir": "sub", "sub/round": "../sub/../docs/../a.txt"}
    outside = {
        "out": "../secret.txt",
        "far": "../../../../../../etc/passwd",
        "absolute": str(tmp_path / "secret.txt"),
        "absolute-inside": str(public / "a.txt"),
        "outdir": "..",
        "back": "../public/a.txt",
        "loop": "loop",
        "gone": "nothing",
        "sub/out": "../../secret.txt",
        "magic": "/proc/self/root/etc/passwd",
    }
    for name, target in {**inside, **outside}.items():
        (public / name).symlink_to(target)
    os.link(tmp_path / "secret.txt", tmp_path / "hard")
    return inside, [*outside, "outdir/secret.txt", "subdir/out", "subdir/../../secret.txt"]


def test_no_link_is_followed(get, links):
    for name in (*links[0], *links[1], "subdir/deep/b.html"):
        assert get(f"/{name}").status == 404, name


def test_links_inside_are_followed_if_told(get, links):
    told = {"follow_links": True}
    for name in links[0]:
        if name != "subdir":
            assert get(f"/{name}", settings=told).body == b"hello, world", name
    assert get("/subdir/deep/b.html", settings=told).body == b"<p>b</p>"
    for name in links[1]:
        answer = get(f"/{name}", settings=told)
        assert answer.status == 404 and b"secret" not in answer.body, name


def test_link_as_sibling_or_index_is_not_followed(get, public, tmp_path):
    (public / "a.txt.gz").symlink_to("../secret.txt")
    (public / "sub/index.html").symlink_to("../../secret.txt")
    assert get("/a.txt", headers={"Accept-Encoding": "gzip"}).body == b"hello, world"
    assert get("/sub/", settings={"html": True}).status == 404


def test_long_chain_of_links_ends(get, public):
    (public / "l0").symlink_to("a.txt")
    for number in range(1, 60):
        (public / f"l{number}").symlink_to(f"l{number - 1}")
    told = {"follow_links": True}
    assert get("/l30", settings=told).status == 200
    assert get("/l59", settings=told).status == 404


def test_only_regular_files_are_served(get, public):
    os.mkfifo(public / "fifo.txt")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(public / "socket.txt"))
        assert get("/fifo.txt").status == 404  # and does not wait for a writer
        assert get("/socket.txt").status == 404
    if os.geteuid() == 0:
        try:
            os.mknod(public / "null.txt", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            return
        assert get("/null.txt").status == 404


def test_file_that_may_not_be_read_is_absent(get, public, monkeypatch):
    os.chmod(public / "a.txt", 0)
    if os.geteuid() != 0:
        assert get("/a.txt").status == 404
    monkeypatch.setattr(folder, "_make_open_file", _refuse_to_open)
    assert get("/empty.txt").status == 503


def _refuse_to_open(fd):
    os.close(fd)
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("follow_links", [False, True])
def test_exchange_of_file_and_link_never_leads_outside(run, opener, public, tmp_path, follow_links):
    """Another process swaps files and folders for links that lead outside, as fast as it can."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.txt").write_bytes(b"secret")
    (public / "sub/x.txt").write_bytes(b"public")
    (public / "x.txt").write_bytes(b"public")
    is_over = threading.Event()

    def swap():
        (public / "link.txt").symlink_to("../secret.txt")
        (public / "linkdir").symlink_to("../sub")
        while not is_over.is_set():
            for one, other in (("x.txt", "link.txt"), ("sub", "linkdir")):
                for _ in range(2):
                    os.rename(public / one, public / "between")
                    os.rename(public / other, public / one)
                    os.rename(public / "between", public / other)

    application = StaticFiles(public, follow_links=follow_links)
    statuses = set()

    async def main():
        for _ in range(400):
            for target in ("/x.txt", "/sub/x.txt"):
                answer = await call(application, target)
                statuses.add(answer.status)
                assert answer.status == 404 or answer.body == b"public"

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        run(main(), timeout=30)
    finally:
        is_over.set()
        thread.join()
    assert statuses == {200, 404}


@pytest.fixture
def pass_second(monkeypatch):
    """Makes what is remembered for a second a second old."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def pass_second():
        nonlocal now
        now += 1

    return pass_second


def test_folder_that_is_replaced_is_read(run, opener, public, pass_second):
    application = StaticFiles(public)

    async def main():
        os.rename(public, public.with_name("old"))
        public.mkdir()
        (public / "a.txt").write_bytes(b"new")
        assert (await call(application, "/a.txt")).body == b"hello, world"
        pass_second()
        assert (await call(application, "/a.txt")).body == b"new"
        os.rename(public, public.with_name("gone"))
        assert (await call(application, "/a.txt")).body == b"new"

    run(main())


def test_folder_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        StaticFiles(tmp_path / "nothing")
    with pytest.raises(NotADirectoryError):
        StaticFiles(tmp_path / "file")
    with pytest.raises(ValueError, match="precompressed"):
        StaticFiles(tmp_path, precompressed=["deflate"])
    with pytest.raises(ValueError, match="cache_control"):
        StaticFiles(tmp_path, cache_control="a\r\nX-Y: z")


def test_kernel_and_components_agree(public, links):
    kernel = {follow: Folder(str(public), follow_links=follow) for follow in (False, True)}
    if kernel[True]._openat2 is None:
        pytest.skip("no openat2() here")
    names = [*links[0], *links[1], "a.txt", "sub", "sub/deep", "nothing", "a.txt/x", "docs/index.html", ".", "./a.txt"]
    for follow, by_kernel in kernel.items():
        by_component = Folder(str(public), follow_links=follow, is_portable=True)
        for name in names:
            assert _outcome(by_kernel, name) == _outcome(by_component, name), (name, follow)


def _outcome(opener, name):
    try:
        return opener.open(name.encode()).inode
    except OSError as error:
        return type(error)


# --- folders -------------------------------------------------------------------------------------------------------------


def test_index_of_a_folder(get):
    html = {"html": True}
    assert get("/", settings=html).body == b"<p>root</p>"
    answer = get("/docs/", settings=html)
    assert (answer.body, answer.headers["content-type"]) == (b"<p>docs</p>", "text/html; charset=utf-8")
    assert get("/sub/", settings=html).status == 404
    for target in ("", "/", "/docs/", "/docs"):
        assert get(target).status == 404


@pytest.mark.parametrize(
    ("target", "root_path", "location"),
    [
        ("/docs", "", "./docs/"),
        ("/docs?a=1&b=%20", "", "./docs/?a=1&b=%20"),
        ("/static/docs", "/static", "./docs/"),
        ("/static", "/static", "./static/"),
        ("/a:b", "", "./a%3Ab/"),
    ],
)
def test_folder_without_slash_is_redirected(get, public, target, root_path, location):
    (public / "a:b").mkdir()
    (public / "a:b/index.html").touch()
    answer = get(target, settings={"html": True}, root_path=root_path)
    assert (answer.status, answer.headers["location"]) == (301, location)
    assert get(target, "HEAD", settings={"html": True}, root_path=root_path).body == b""


def test_redirection_never_leads_to_another_host(get, public):
    (public / "evil.example").mkdir()
    (public / "evil.example/index.html").touch()
    for target in ("//evil.example", "/\\evil.example", "//evil.example/..", "/.//evil.example"):
        assert get(target, settings={"html": True}).status == 404


def test_folder_without_index_is_absent(get):
    assert get("/sub", settings={"html": True}).status == 404


# --- conditions ----------------------------------------------------------------------------------------------------------

ETAG = "<etag>"  # stands for the file's own


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f"W/{ETAG}"}, 304),
        ({"If-None-Match": f'"x", {ETAG}'}, 304),
        ({"If-None-Match": f'"x,y" ,,\tW/{ETAG}, '}, 304),
        ([("If-None-Match", '"x"'), ("If-None-Match", ETAG)], 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": f"w/{ETAG}"}, 200),
        ({"If-None-Match": f"{ETAG}x"}, 200),
        ({"If-None-Match": "*, *"}, 200),
        ({"If-None-Match": '"'}, 200),
        ({"If-None-Match": ""}, 200),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": "Wed, 15 Nov 2023 22:13:20 GMT"}, 304),
        ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"If-Modified-Since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
        ({"If-Modified-Since": "Tue Nov 14 22:13:20 2023"}, 304),
        ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 +0000"}, 200),
        ({"If-Modified-Since": "tomorrow"}, 200),
        ({"If-Modified-Since": "Tue, 14 Xxx 2023 22:13:20 GMT"}, 200),
        ([("If-Modified-Since", DATE), ("If-Modified-Since", DATE)], 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, 200),
        ({"If-None-Match": ETAG, "If-Modified-Since": "Tue, 14 Nov 2000 22:13:19 GMT"}, 304),
        ({"If-Match": ETAG}, 200),
        ({"If-Match": f'"x", {ETAG}'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"W/{ETAG}"}, 412),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": "x"}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 412),
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"If-Match": ETAG, "If-Unmodified-Since": "Tue, 14 Nov 2000 22:13:19 GMT"}, 200),
        ({"If-Match": ETAG, "If-None-Match": ETAG}, 304),
        ({"If-Match": '"x"', "If-None-Match": ETAG}, 412),
        ({"If-None-Match": ETAG, "Range": "bytes=0-1"}, 304),
    ],
)
def test_condition(get, headers, status):
    etag = get("/a.txt").headers["etag"]
    pairs = headers.items() if isinstance(headers, dict) else headers
    headers = [(name, value.replace(ETAG, etag)) for name, value in pairs]
    for method in ("GET", "HEAD"):
        answer = get("/a.txt", method, headers)
        assert answer.status == status
        if status == 304:
            assert answer.body == b""
            assert answer.headers == {"etag": etag, "last-modified": DATE, "vary": "accept-encoding"}


def test_conditions_of_what_is_absent_are_ignored(get):
    for headers in ({"If-Match": "*"}, {"If-None-Match": "*"}):
        assert get("/nothing", headers=headers).status == 404


def test_long_list_of_tags_is_read_in_linear_time(get):
    for value in ('"x"' + " , " * 20000 + "!", '"' * 60000, "W/" * 30000, '"x",' * 15000):
        begin = time.process_time()
        assert get("/a.txt", headers={"If-None-Match": value, "Accept-Encoding": value}).status == 200
        assert time.process_time() - begin < 2


def test_every_change_of_a_file_changes_its_tag(get, public):
    seen = {get("/a.txt").headers["etag"]}
    path = public / "a.txt"
    path.write_bytes(b"hello, WORLD")
    os.utime(path, ns=(MTIME * 10**9 + 1, MTIME * 10**9 + 1))
    seen.add(get("/a.txt").headers["etag"])
    path.write_bytes(b"longer than before")
    os.utime(path, (MTIME, MTIME))
    seen.add(get("/a.txt").headers["etag"])
    (public / "new").write_bytes(b"hello, world")
    os.utime(public / "new", (MTIME, MTIME))
    os.rename(public / "new", path)
    seen.add(get("/a.txt").headers["etag"])
    assert len(seen) == 4


def test_date_in_the_future_is_not_sent(get, public):
    os.utime(public / "a.txt", (2**32, 2**32))
    modified = email.utils.parsedate_to_datetime(get("/a.txt").headers["last-modified"])
    assert modified.timestamp() <= time.time()


# --- ranges --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body", "content_range"),
    [
        ("bytes=0-4", b"hello", "bytes 0-4/12"),
        ("bytes=7-", b"world", "bytes 7-11/12"),
        ("bytes=-5", b"world", "bytes 7-11/12"),
        ("bytes=-500", b"hello, world", "bytes 0-11/12"),
        ("bytes=11-11", b"d", "bytes 11-11/12"),
        ("bytes=7-500", b"world", "bytes 7-11/12"),
        ("Bytes= 0-0", b"h", "bytes 0-0/12"),
        ("bytes=0-" + "9" * 5000, b"hello, world", "bytes 0-11/12"),
    ],
)
def test_range_is_sent(get, value, body, content_range):
    answer = get("/a.txt", headers={"Range": value})
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, body, content_range)
    assert answer.headers["content-length"] == str(len(body)) and "etag" in answer.headers
    whole = get("/a.txt", "HEAD", headers={"Range": value})
    assert (whole.status, whole.headers["content-length"]) == (200, "12")


@pytest.mark.parametrize("value", ["bytes=12-", "bytes=12-13", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_range_behind_the_end(get, value):
    answer = get("/a.txt", headers={"Range": value})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */12")


@pytest.mark.parametrize(
    "value",
    ["bytes=5-4", "bytes=-", "bytes=", "bytes", "items=0-1", "bytes=a-b", "bytes=0-1,3-4", "bytes=0-1, 99-", "bytes=0--1", "bytes=+0-1", ""],
)
def test_what_is_no_single_range_gives_the_whole_file(get, value):
    answer = get("/a.txt", headers={"Range": value})
    assert (answer.status, answer.body) == (200, b"hello, world")


def test_two_range_headers_give_the_whole_file(get):
    assert get("/a.txt", headers=[("Range", "bytes=0-1"), ("Range", "bytes=3-4")]).status == 200


def test_empty_file_has_no_ranges(get):
    for value in ("bytes=0-", "bytes=-1"):
        answer = get("/empty.txt", headers={"Range": value})
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("value", "status"),
    [(ETAG, 206), (f"W/{ETAG}", 200), ('"x"', 200), (DATE, 206), ("Tue, 14 Nov 2023 22:13:21 GMT", 200), ("nonsense", 200)],
)
def test_if_range(get, value, status):
    etag = get("/a.txt").headers["etag"]
    headers = {"Range": "bytes=0-1", "If-Range": value.replace(ETAG, etag)}
    assert get("/a.txt", headers=headers).status == status
    # Behind the end of another version, the whole new one is right.
    headers["Range"] = "bytes=500-"
    assert get("/a.txt", headers=headers).status == (416 if status == 206 else 200)


def test_date_of_this_second_is_no_strong_validator(get, public):
    now = time.time()
    os.utime(public / "a.txt", (now, now))
    answer = get("/a.txt")
    headers = {"Range": "bytes=0-1", "If-Range": answer.headers["last-modified"]}
    assert get("/a.txt", headers=headers).status == 200


# --- codings and types ---------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(public):
    for ending in ("br", "zst", "gz"):
        (public / f"a.txt.{ending}").write_bytes(ending.encode())
        os.utime(public / f"a.txt.{ending}", (MTIME, MTIME))


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("br;q=0, *", "zstd"),
        ("*", "br"),
        ("*;q=0", None),
        ("br;q=0", None),
        ("br;q=0.000, gzip; q=0.001", "gzip"),
        ("identity, br;q=0.5", None),
        ("identity;q=0.5, br;q=0.5", "br"),
        ("identity;q=0, gzip", "gzip"),
        ("br;q=2, gzip", "gzip"),
        ("br;level=5, gzip", "gzip"),
        ("deflate", None),
        ("", None),
        (None, None),
        ("br" + ", x" * 1000, "br"),
    ],
)
def test_coding_is_what_the_client_likes_best(get, packed, accepted, coding):
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    answer = get("/a.txt", headers=headers)
    assert answer.headers.get("content-encoding") == coding
    assert answer.body == {"br": b"br", "zstd": b"zst", "gzip": b"gz", None: b"hello, world"}[coding]
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_order_of_codings_is_a_setting(get, packed):
    headers = {"Accept-Encoding": "br, gzip, zstd"}
    assert get("/a.txt", headers=headers, settings={"precompressed": ["gzip", "br"]}).body == b"gz"
    answer = get("/a.txt", headers=headers, settings={"precompressed": ()})
    assert answer.body == b"hello, world" and "vary" not in answer.headers


def test_codings_have_tags_and_ranges_of_their_own(get, packed):
    plain = get("/a.txt")
    headers = {"Accept-Encoding": "gzip"}
    answer = get("/a.txt", headers=headers)
    assert answer.headers["etag"] != plain.headers["etag"]
    assert get("/a.txt", headers={**headers, "If-None-Match": plain.headers["etag"]}).status == 200
    assert get("/a.txt", headers={**headers, "If-None-Match": answer.headers["etag"]}).status == 304
    part = get("/a.txt", headers={**headers, "Range": "bytes=1-"})
    assert (part.status, part.body, part.headers["content-encoding"]) == (206, b"z", "gzip")


def test_sibling_older_than_its_file_is_left_alone(get, public, packed):
    os.utime(public / "a.txt", (MTIME + 1, MTIME + 1))
    os.utime(public / "a.txt.gz", (MTIME + 1.5, MTIME + 1.5))
    assert get("/a.txt", headers={"Accept-Encoding": "br, gzip"}).body == b"gz"


def test_sibling_that_appears_or_goes_is_noticed(run, opener, public, pass_second):
    application = StaticFiles(public)
    headers = {"Accept-Encoding": "gzip"}

    async def main():
        assert (await call(application, "/a.txt", headers=headers)).body == b"hello, world"
        (public / "a.txt.gz").write_bytes(b"gz")
        assert (await call(application, "/a.txt", headers=headers)).body == b"hello, world"
        pass_second()
        assert (await call(application, "/a.txt", headers=headers)).body == b"gz"
        os.unlink(public / "a.txt.gz")
        assert (await call(application, "/a.txt", headers=headers)).body == b"hello, world"

    run(main())


def test_sibling_without_its_file_is_not_served(get, public, packed):
    os.unlink(public / "a.txt")
    assert get("/a.txt", headers={"Accept-Encoding": "br"}).status == 404
    answer = get("/a.txt.gz", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "application/gzip" and "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.CSS", "text/css; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.svg", "image/svg+xml"),
        ("a.avif", "image/avif"),
        ("a.webp", "image/webp"),
        ("a.woff2", "font/woff2"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.tar.gz", "application/gzip"),
        ("a.min.js.map", "application/json"),
        ("a.zst", "application/zstd"),
        ("a.pdf", "application/pdf"),
        ("a.nobody-knows", "application/octet-stream"),
        ("noending", "application/octet-stream"),
        ("html", "application/octet-stream"),
    ],
)
def test_media_type(get, public, name, media_type):
    (public / name).touch()
    assert get(f"/{name}").headers["content-type"] == media_type


def test_cache_control_is_sent_with_what_is_found(get):
    settings = {"cache_control": "public, max-age=3600"}
    answer = get("/a.txt", settings=settings)
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert get("/a.txt", headers={"If-None-Match": "*"}, settings=settings).headers["cache-control"] == "public, max-age=3600"
    assert "cache-control" not in get("/nothing", settings=settings).headers


# --- sending -------------------------------------------------------------------------------------------------------------

ZERO_COPY = {"http.response.zerocopysend": {}, "http.response.pathsend": {}}


@pytest.mark.parametrize(
    ("extensions", "headers", "kinds"),
    [
        (ZERO_COPY, {}, ["zerocopysend"]),
        (ZERO_COPY, {"Range": "bytes=5-200000"}, ["zerocopysend"]),
        (ZERO_COPY, {"Range": "bytes=5-6"}, ["body"]),
        ({"http.response.pathsend": {}}, {}, ["pathsend"]),
        ({"http.response.pathsend": {}}, {"Range": "bytes=5-200000"}, ["body", "body"]),
        ({}, {}, ["body", "body"]),
        (None, {}, ["body", "body"]),
    ],
)
def test_long_file_is_sent_in_the_best_way(get, extensions, headers, kinds):
    answer = get("/long.bin", headers=headers, extensions=extensions)
    assert answer.kinds == kinds
    found = re.match(r"bytes=(\d+)-(\d+)", headers.get("Range", f"bytes=0-{len(LONG)}"))
    assert answer.body == LONG[int(found[1]) : int(found[2]) + 1]
    assert answer.headers["content-length"] == str(len(answer.body))


def test_short_file_leaves_with_its_head(get):
    assert get("/a.txt", extensions=ZERO_COPY).kinds == ["body"]


def test_folder_is_closed_with_the_last_reference(run, public, open_fds):
    before = open_fds()
    application = StaticFiles(public)
    assert run(call(application, "/a.txt", headers={"Accept-Encoding": "gzip"})).status == 200
    assert len(open_fds() - before) == 1
    del application
    assert not open_fds() - before


HEADERS_OF_EVERY_WAY = [
    ("Accept", "*/*"),
    ("If-None-Match", "*"),
    ("If-Match", '"x"'),
    ("Range", "bytes=1-"),
    ("Range", "bytes=999999-"),
    ("Accept-Encoding", "br"),
]


@pytest.mark.parametrize("extensions", [{}, ZERO_COPY, {"http.response.pathsend": {}}])
def test_no_descriptor_is_left(run, opener, public, packed, open_fds, extensions):
    application = StaticFiles(public, html=True)

    async def main():
        for target in ("/a.txt", "/long.bin", "/nothing", "/sub", "/docs", "/docs/", "/empty.txt", "/.."):
            for name, value in HEADERS_OF_EVERY_WAY:
                for method in ("GET", "HEAD", "POST"):
                    await call(application, target, method, {name: value}, extensions=extensions)

    run(main())  # threads of the executor, and what they keep
    before = open_fds()
    run(main())
    assert not [(fd, os.readlink(f"/proc/self/fd/{fd}")) for fd in open_fds() - before]


@pytest.mark.parametrize("extensions", [{}, ZERO_COPY])
def test_no_descriptor_is_left_when_the_client_goes(run, opener, public, open_fds, extensions):
    application = StaticFiles(public)

    async def fail(message):
        if message["type"] != "http.response.start":
            raise OSError("gone")

    async def wait(message):
        if message["type"] != "http.response.start":
            await asyncio.Event().wait()

    async def main():
        with pytest.raises(OSError, match="gone"):
            await call(application, "/long.bin", on_send=fail, extensions=extensions)
        for turns in range(8):  # cancelled at every await on the way
            task = asyncio.ensure_future(call(application, "/long.bin", on_send=wait, extensions=extensions))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
        await asyncio.get_running_loop().run_in_executor(None, gc.collect)

    run(main())
    gc.collect()
    before = open_fds()
    run(main())
    run(_threads_are_idle())
    gc.collect()
    assert not [(fd, os.readlink(f"/proc/self/fd/{fd}")) for fd in open_fds() - before]


async def _threads_are_idle():
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(64)))


def test_file_that_shrinks_ends_the_response(run, opener, public):
    async def shrink(message):
        if message["type"] == "http.response.start":
            os.truncate(public / "long.bin", 1000)

    with pytest.raises(RuntimeError, match="shorter"):
        run(call(StaticFiles(public), "/long.bin", on_send=shrink))


def test_what_is_not_cached_is_read_in_a_thread(run, public, monkeypatch):
    threads = []
    read = folder.OpenFile.read

    def read_and_note(self, size, offset):
        threads.append(threading.current_thread())
        return read(self, size, offset)

    def not_cached(self, size, offset):
        raise BlockingIOError

    monkeypatch.setattr(folder.OpenFile, "read", read_and_note)
    monkeypatch.setattr(folder.OpenFile, "read_cached", not_cached)
    assert run(call(StaticFiles(public), "/long.bin")).body == LONG
    assert len(threads) == 2 and threading.main_thread() not in threads


# --- mounts --------------------------------------------------------------------------------------------------------------


def test_mounts_come_before_the_application(run, public):
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    mounts = Mounts(application, [("/s", StaticFiles(public)), ("/s/docs/", StaticFiles(public / "sub", html=True))])
    expected = {
        "/s/a.txt": (200, b"hello, world"),
        "/s/nothing": (404, b"Not Found"),
        "/s": (404, b"Not Found"),
        "/s/docs/deep/b.html": (200, b"<p>b</p>"),
        "/s/docs/index.html": (404, b"Not Found"),
        "/s/docs/../a.txt": (404, b"Not Found"),
        "/sa.txt": (200, b"/sa.txt"),
        "/": (200, b"/"),
        "/x/s/a.txt": (200, b"/x/s/a.txt"),
    }
    for target, answer in expected.items():
        found = run(call(mounts, target))
        assert (found.status, found.body) == answer, target
    assert run(call(mounts, "/base/s/a.txt", root_path="/base")).body == b"hello, world"
    everything = Mounts(application, [("/", StaticFiles(public))])
    assert run(call(everything, "/a.txt")).body == b"hello, world"
