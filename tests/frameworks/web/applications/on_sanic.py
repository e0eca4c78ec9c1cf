# SPDX-License-Identifier: MIT
"""The sample application on Sanic, by its ASGI interface."""

from common import FOLDER, Count, Happenings, endless, events, item, pieces
from sanic import Sanic, response
from sanic.exceptions import SanicException

happenings = Happenings()
app = Sanic("sample", configure_logging=False)
app.config.REQUEST_MAX_SIZE = 1 << 30
app.static("/static", FOLDER, name="static")


@app.before_server_start
async def start(app):
    happenings.start()


@app.after_server_stop
async def end(app):
    happenings.end()


@app.on_response
async def tag(request, answer):
    answer.headers["x-tag"] = request.method


@app.route("/items/<number:int>", methods=["GET", "HEAD"])
async def show_item(request, number):
    return response.json(item(number, request.args.getlist("q", [])))


@app.post("/form")
async def take_form(request):
    return response.json({name: request.form.get(name) for name in request.form})


@app.post("/upload")
async def take_upload(request):
    upload = request.files.get("file")
    counted = Count()
    counted.add(upload.body)
    return response.json({"name": upload.name, "note": request.form.get("note"), "count": str(counted)})


@app.post("/count")  # its streams of requests never end on ASGI servers
async def count(request):
    counted = Count()
    counted.add(request.body)
    return response.text(str(counted))


async def send_all(request, source, content_type):
    answer = await request.respond(content_type=content_type)
    async for piece in source:
        await answer.send(piece)
    await answer.eof()


@app.get("/stream")
async def stream(request):
    await send_all(request, pieces(), "text/plain")


@app.get("/events")
async def stream_events(request):
    await send_all(request, events(), "text/event-stream")


@app.get("/endless")
async def stream_without_end(request):
    await send_all(request, endless(happenings), "text/plain")


@app.get("/gone")
async def wait_until_gone(request):
    await happenings.gone.wait()
    return response.text("gone")


@app.get("/cookies")
async def show_cookies(request):
    answer = response.json({name: request.cookies.get(name) for name in request.cookies})
    answer.add_cookie("first", "1", httponly=True, secure=False)
    answer.add_cookie("second", "2", path="/items", secure=False)
    return answer


@app.get("/redirect")
async def redirect(request):
    return response.redirect("/items/1", status=307)


@app.get("/fail")
async def fail(request):
    raise ValueError("on purpose")


@app.get("/teapot")
async def be_a_teapot(request):
    raise SanicException("short and stout", status_code=418, headers={"X-Pot": "tea"})


@app.post("/background")
async def work_later(request):
    app.add_task(happenings.work("mail"))
    return response.text("accepted", status=202)


@app.get("/happenings")
async def tell(request):
    return response.json(happenings.tell())


@app.websocket("/echo")
async def echo(request, socket):
    while True:
        await socket.send((await socket.recv()).upper())
        await socket.send((await socket.recv())[::-1])
