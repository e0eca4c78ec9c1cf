# SPDX-License-Identifier: MIT
"""The sample application on FastAPI."""

import contextlib
from typing import Annotated

from common import FOLDER, Count, Happenings, count_of_file, endless, events, item, pieces
from fastapi import BackgroundTasks, FastAPI, Form, HTTPException, Query, Request, Response, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

happenings = Happenings()


@contextlib.asynccontextmanager
async def lifespan(app):
    happenings.start()
    yield {"word": "of the lifespan"}
    happenings.end()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def tag(request, call_next):
    response = await call_next(request)
    response.headers["x-tag"] = request.method
    return response


@app.api_route("/items/{number}", methods=["GET", "HEAD"])
def show_item(number: int, q: Annotated[list[str], Query()] = []):  # noqa: B006  # as FastAPI's documentation has it
    return item(number, q)


@app.post("/form")
async def take_form(name: Annotated[str, Form()], text: Annotated[str, Form()]):
    return {"name": name, "text": text}


@app.post("/upload")
def take_upload(file: UploadFile, note: Annotated[str, Form()]):
    return {"name": file.filename, "note": note, "count": count_of_file(file.file)}


@app.post("/count", response_class=PlainTextResponse)
async def count(request: Request):
    counted = Count()
    async for piece in request.stream():
        counted.add(piece)
    return str(counted)


@app.get("/stream")
async def stream():
    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/events")
async def stream_events():
    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/endless")
async def stream_without_end():
    return StreamingResponse(endless(happenings), media_type="text/plain")


@app.get("/gone", response_class=PlainTextResponse)
async def wait_until_gone():
    await happenings.gone.wait()
    return "gone"


@app.get("/cookies")
async def show_cookies(request: Request, response: Response):
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2", path="/items")
    return request.cookies


@app.get("/redirect")
async def redirect():
    return RedirectResponse("/items/1")


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


@app.get("/teapot")
async def be_a_teapot():
    raise HTTPException(418, "short and stout", headers={"X-Pot": "tea"})


@app.post("/background", status_code=202)
async def work_later(tasks: BackgroundTasks):
    tasks.add_task(happenings.work, "mail")
    return "accepted"


@app.get("/happenings")
async def tell(request: Request):
    return {**happenings.tell(), "word": request.state.word}


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept(subprotocol="echo" if "echo" in socket.scope["subprotocols"] else None, headers=[(b"x-socket", b"yes")])
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text((await socket.receive_text()).upper())
            await socket.send_bytes((await socket.receive_bytes())[::-1])


@app.websocket("/closing")
async def close_at_once(socket: WebSocket):
    await socket.accept()
    await socket.close(4001, "enough")


@app.websocket("/refused")
async def refuse(socket: WebSocket):
    await socket.close()


@app.websocket("/failing")
async def fail_in_socket(socket: WebSocket):
    await socket.accept()
    raise ValueError("in a socket")


app.mount("/static", StaticFiles(directory=FOLDER))
