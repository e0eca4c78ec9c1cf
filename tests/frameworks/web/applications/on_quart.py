# SPDX-License-Identifier: MIT
"""The sample application on Quart."""

from common import FOLDER, Count, Happenings, count_of_file, endless, events, item, pieces
from quart import Quart, Response, abort, jsonify, redirect, request, websocket
from werkzeug.exceptions import HTTPException

happenings = Happenings()
app = Quart(__name__, static_folder=str(FOLDER), static_url_path="/static")
app.config["MAX_CONTENT_LENGTH"] = None
app.config["MAX_FORM_MEMORY_SIZE"] = None


@app.before_serving
async def start():
    happenings.start()


@app.after_serving
async def end():
    happenings.end()


@app.after_request
async def tag(response):
    response.headers["X-Tag"] = request.method
    return response


@app.get("/items/<int:number>")
async def show_item(number):
    return item(number, request.args.getlist("q"))


@app.post("/form")
async def take_form():
    return dict(await request.form)


@app.post("/upload")
async def take_upload():
    upload = (await request.files)["file"]
    return {"name": upload.filename, "note": (await request.form)["note"], "count": count_of_file(upload)}


@app.post("/count")
async def count():
    counted = Count()
    async for piece in request.body:
        counted.add(piece)
    return str(counted)


@app.get("/stream")
async def stream():
    return pieces(), {"Content-Type": "text/plain"}


@app.get("/events")
async def stream_events():
    response = Response(events(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.get("/endless")
async def stream_without_end():
    response = Response(endless(happenings), content_type="text/plain")
    response.timeout = None
    return response


@app.get("/gone")
async def wait_until_gone():
    await happenings.gone.wait()
    return "gone"


@app.get("/cookies")
async def show_cookies():
    response = jsonify(dict(request.cookies))
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2", path="/items")
    return response


@app.get("/redirect")
async def go_away():
    return redirect("/items/1", 307)


@app.get("/fail")
async def fail():
    raise ValueError("on purpose")


@app.get("/teapot")
async def be_a_teapot():
    abort(418, "short and stout")


@app.post("/background")
async def work_later():
    app.add_background_task(happenings.work, "mail")
    return "accepted", 202


@app.get("/happenings")
async def tell():
    return happenings.tell()


@app.websocket("/echo")
async def echo():
    await websocket.accept(headers={"x-socket": "yes"}, subprotocol="echo" if "echo" in websocket.requested_subprotocols else None)
    while True:
        await websocket.send((await websocket.receive()).upper())
        await websocket.send((await websocket.receive())[::-1])


@app.websocket("/closing")
async def close_at_once():
    await websocket.accept()
    await websocket.close(4001, "enough")


@app.websocket("/refused")
async def refuse():
    raise HTTPException(response=Response("not here", 403))


@app.websocket("/failing")
async def fail_in_socket():
    await websocket.accept()
    raise ValueError("in a socket")
