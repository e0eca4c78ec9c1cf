# SPDX-License-Identifier: MIT
"""The sample application on Litestar."""

import contextlib
from typing import Annotated, Any

from common import FOLDER, Count, Happenings, endless, events, item, pieces
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie, UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.params import Body
from litestar.response import Redirect, Stream
from litestar.static_files import create_static_files_router

happenings = Happenings()


@contextlib.asynccontextmanager
async def lifespan(app):
    happenings.start()
    yield
    happenings.end()


async def tag(response: Response) -> Response:
    response.headers["x-tag"] = "yes"
    return response


@get("/items/{number:int}")
async def show_item(number: int, request: Request) -> dict[str, Any]:
    return item(number, request.query_params.getall("q", []))


@post("/form", status_code=200)
async def take_form(data: Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]) -> dict[str, str]:
    return data


@post("/upload", status_code=200, request_max_body_size=None)
async def take_upload(data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)]) -> dict[str, Any]:
    upload: UploadFile = data["file"]
    counted = Count()
    while piece := await upload.read(1 << 20):
        counted.add(piece)
    return {"name": upload.filename, "note": data["note"], "count": str(counted)}


@post("/count", status_code=200, media_type=MediaType.TEXT, request_max_body_size=None)
async def count(request: Request) -> str:
    counted = Count()
    async for piece in request.stream():
        counted.add(piece)
    return str(counted)


@get("/stream")
async def stream() -> Stream:
    return Stream(pieces(), media_type="text/plain")


@get("/events")
async def stream_events() -> Stream:
    return Stream(events(), media_type="text/event-stream")


@get("/endless")
async def stream_without_end() -> Stream:
    return Stream(endless(happenings), media_type="text/plain")


@get("/gone", media_type=MediaType.TEXT)
async def wait_until_gone() -> str:
    await happenings.gone.wait()
    return "gone"


@get("/cookies")
async def show_cookies(request: Request) -> Response[dict[str, str]]:
    cookies = [Cookie(key="first", value="1", httponly=True), Cookie(key="second", value="2", path="/items")]
    return Response(dict(request.cookies), cookies=cookies)


@get("/redirect")
async def redirect() -> Redirect:
    return Redirect("/items/1")


@get("/fail")
async def fail() -> None:
    raise ValueError("on purpose")


@get("/teapot")
async def be_a_teapot() -> None:
    raise HTTPException("short and stout", status_code=418, headers={"X-Pot": "tea"})


@post("/background", status_code=202)
async def work_later() -> Response[str]:
    return Response("accepted", background=BackgroundTask(happenings.work, "mail"))


@get("/happenings")
async def tell() -> dict[str, Any]:
    return happenings.tell()


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept(subprotocols="echo" if "echo" in socket.scope["subprotocols"] else None, headers={"x-socket": "yes"})
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text((await socket.receive_text()).upper())
            await socket.send_bytes((await socket.receive_bytes())[::-1])


@websocket("/closing")
async def close_at_once(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4001, "enough")


@websocket("/refused")
async def refuse(socket: WebSocket) -> None:
    await socket.close()


@websocket("/failing")
async def fail_in_socket(socket: WebSocket) -> None:
    await socket.accept()
    raise ValueError("in a socket")


app = Litestar(
    route_handlers=[
        show_item, take_form, take_upload, count, stream, stream_events, stream_without_end, wait_until_gone, show_cookies, redirect,
        fail, be_a_teapot, work_later, tell, echo, close_at_once, refuse, fail_in_socket,
        create_static_files_router(path="/static", directories=[FOLDER]),
    ],
    lifespan=[lifespan],
    after_request=tag,
    openapi_config=None,
)  # fmt: skip
