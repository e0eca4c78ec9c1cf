# SPDX-License-Identifier: MIT
"""The sample application on Django, which has neither lifespan nor WebSocket."""

import asyncio

from common import FOLDER, Count, Happenings, count_of_file, endless, events, item, pieces
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path
from django.utils.decorators import async_only_middleware
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from django.views.static import serve

happenings = Happenings()


@async_only_middleware
def tag(get_response):
    async def middleware(request):
        response = await get_response(request)
        response["X-Tag"] = request.method
        return response

    return middleware


settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.tag"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a sample",
)


@require_safe
async def show_item(request, number):
    return JsonResponse(item(number, request.GET.getlist("q")))


@csrf_exempt
async def take_form(request):
    return JsonResponse(request.POST.dict())


@csrf_exempt
def take_upload(request):
    upload = request.FILES["file"]
    return JsonResponse({"name": upload.name, "note": request.POST["note"], "count": count_of_file(upload)})


@csrf_exempt
async def count(request):
    counted = Count()
    while piece := request.read(1 << 16):
        counted.add(piece)
    return HttpResponse(str(counted), content_type="text/plain")


async def stream(request):
    return StreamingHttpResponse(pieces(), content_type="text/plain")


async def stream_events(request):
    return StreamingHttpResponse(events(), content_type="text/event-stream")


async def stream_without_end(request):
    return StreamingHttpResponse(endless(happenings), content_type="text/plain")


async def wait_until_gone(request):
    await happenings.gone.wait()
    return HttpResponse("gone")


async def show_cookies(request):
    response = JsonResponse(request.COOKIES)
    response.set_cookie("first", "1", httponly=True)
    response.set_cookie("second", "2", path="/items")
    return response


@require_safe
async def redirect(request):
    return HttpResponseRedirect("/items/1", preserve_request=True)


def fail(request):
    raise ValueError("on purpose")


async def be_a_teapot(request):
    return HttpResponse("short and stout", status=418, headers={"X-Pot": "tea"})


@csrf_exempt
async def work_later(request):
    happenings.task = asyncio.create_task(happenings.work("mail"))
    return HttpResponse("accepted", status=202)


async def tell(request):
    return JsonResponse(happenings.tell())


urlpatterns = [
    path("items/<int:number>", show_item),
    path("form", take_form),
    path("upload", take_upload),
    path("count", count),
    path("stream", stream),
    path("events", stream_events),
    path("endless", stream_without_end),
    path("gone", wait_until_gone),
    path("cookies", show_cookies),
    path("redirect", redirect),
    path("fail", fail),
    path("teapot", be_a_teapot),
    path("background", work_later),
    path("happenings", tell),
    re_path(r"^static/(?P<path>.*)$", serve, {"document_root": FOLDER}),
]
happenings.start()
app = get_asgi_application()
