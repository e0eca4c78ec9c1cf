# SPDX-License-Identifier: MIT
"""The sample application on Starlette."""

import contextlib

from common import FOLDER, Count, Happenings, count_of_file, endless, events, item, pieces
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

happenings = Happenings()


@contextlib.asynccontextmanager
async def lifespan(app):
    happenings.start()
    yield {"word": "of the lifespan"}
    happenings.end()


async def show_item(request):
    return JSONResponse(item(request.path_params["number"], request.query_params.getlist("q")))


async def take_form(request):
    async with request.form() as form:
        return JSONResponse(dict(form))


async def take_upload(request):
    async with request.form(max_part_size=1 << 30) as form:
        upload = form["file"]
        return JSONResponse({"name": upload.filename, "note": form["note"], "count": count_of_file(upload.file)})


async def count(request):
    counted = Count()
    async for piece in request.stream():
        counted.add(piece)
    return PlainTextResponse(str(counted))


async def stream(request):
    return StreamingResponse(pieces(), media_type="text/plain")


async def stream_events(request):
    return StreamingResponse(events(), media_type="text/event-stream")


async def stream_without_end(request):
    return StreamingResponse(endless(happenings), media_type="text/plain")


async def wait_until_gone(request):
    await happenings.gone.wait()
    return PlainTextResponse("gone")


async def show_cookies(request):
    response = JSONResponse(request.cookies)
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2", path="/items")
    return response


async def redirect(request):
    return RedirectResponse("/items/1")


async def fail(request):
    raise ValueError("on purpose")


async def be_a_teapot(request):
    raise HTTPException(418, "short and stout", headers={"X-Pot": "tea"})


async def work_later(request):
    return PlainTextResponse("accepted", 202, background=BackgroundTask(happenings.work, "mail"))


async def tell(request):
    return JSONResponse({**happenings.tell(), "word": request.state.word})


async def echo(socket):
    await socket.accept(subprotocol="echo" if "echo" in socket.scope["subprotocols"] else None, headers=[(b"x-socket", b"yes")])
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text((await socket.receive_text()).upper())
            await socket.send_bytes((await socket.receive_bytes())[::-1])


async def close_at_once(socket):
    await socket.accept()
    await socket.close(4001, "enough")


async def refuse(socket):
    await socket.close()


async def fail_in_socket(socket):
    await socket.accept()
    raise ValueError("in a socket")


class Tag(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-tag"] = request.method
        return response


app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(Tag)],
    routes=[
        Route("/items/{number:int}", show_item),
        Route("/form", take_form, methods=["POST"]),
        Route("/upload", take_upload, methods=["POST"]),
        Route("/count", count, methods=["POST"]),
        Route("/stream", stream),
        Route("/events", stream_events),
        Route("/endless", stream_without_end),
        Route("/gone", wait_until_gone),
        Route("/cookies", show_cookies),
        Route("/redirect", redirect),
        Route("/fail", fail),
        Route("/teapot", be_a_teapot),
        Route("/background", work_later, methods=["POST"]),
        Route("/happenings", tell),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/closing", close_at_once),
        WebSocketRoute("/refused", refuse),
        WebSocketRoute("/failing", fail_in_socket),
        Mount("/static", StaticFiles(directory=FOLDER)),
    ],
)
