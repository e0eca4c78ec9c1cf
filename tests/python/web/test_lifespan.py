# SPDX-License-Identifier: MIT
"""ASGI's lifespan: uvicorn's modes and log."""

import logging

import pytest

from cxxloop.web.lifespan import Lifespan


@pytest.fixture
def texts(monkeypatch, caplog):
    """Returns what has been logged since the last call."""
    monkeypatch.setattr(logging.getLogger("cxxloop"), "propagate", True)
    caplog.set_level(logging.INFO, "cxxloop.error")

    def texts():
        found = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "cxxloop.error"]
        caplog.clear()
        return found

    return texts


def scripted(*steps):
    """An application that receives, and sends each step in turn; an exception is raised."""

    async def application(scope, receive, send):
        application.scope = scope
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            application.received.append(await receive())
            for message in step if isinstance(step, list) else [step]:
                await send(message)

    application.received = []
    return application


UP, DOWN = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_application_starts_and_ends(run, texts, mode):
    application = scripted(UP, DOWN)

    async def main():
        lifespan = Lifespan(application, mode)
        await lifespan.startup()
        assert application.received == [{"type": "lifespan.startup"}]
        assert texts() == [("INFO", "Waiting for application startup."), ("INFO", "Application startup complete.")]
        await lifespan.shutdown()
        assert application.received[1:] == [{"type": "lifespan.shutdown"}]
        assert texts() == [("INFO", "Waiting for application shutdown."), ("INFO", "Application shutdown complete.")]
        assert not lifespan.should_exit

    run(main())


def test_state_is_kept(run):
    async def application(scope, receive, send):
        assert scope["type"] == "lifespan" and scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        scope["state"]["database"] = "open"
        await receive()
        await send(UP)
        await receive()

    async def main():
        lifespan = Lifespan(application, "on")
        await lifespan.startup()
        assert lifespan.state == {"database": "open"}
        await lifespan.shutdown()

    run(main())


def test_off_calls_nothing(run, texts):
    async def main():
        lifespan = Lifespan(scripted(AssertionError()), "off")
        await lifespan.startup()
        await lifespan.shutdown()
        assert lifespan.state == {} and not lifespan.should_exit and texts() == []

    run(main())


def test_application_without_lifespan_serves_in_auto(run, texts):
    async def main():
        lifespan = Lifespan(scripted(AssertionError("only http")), "auto")
        await lifespan.startup()
        assert texts()[1:] == [
            ("INFO", "ASGI 'lifespan' protocol appears unsupported."),
            ("INFO", "Application startup complete."),
        ]
        await lifespan.shutdown()
        assert texts() == [] and not lifespan.should_exit

    run(main())


def test_application_without_lifespan_exits_in_on(run, texts):
    async def main():
        lifespan = Lifespan(scripted(AssertionError("only http")), "on")
        await lifespan.startup()
        assert texts()[1:] == [
            ("ERROR", "Exception in 'lifespan' protocol\n"),
            ("ERROR", "Application startup failed. Exiting."),
        ]
        assert lifespan.should_exit

    run(main())


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("raises_too", [False, True])
def test_failed_start_exits(run, texts, mode, raises_too):
    failed = {"type": "lifespan.startup.failed", "message": "no database"}
    application = scripted(failed, *([RuntimeError("no database")] if raises_too else []))

    async def main():
        lifespan = Lifespan(application, mode)
        await lifespan.startup()
        assert texts()[1:] == [("ERROR", "no database"), ("ERROR", "Application startup failed. Exiting.")]
        assert lifespan.should_exit

    run(main())


def test_failed_end_is_logged(run, texts):
    async def main():
        lifespan = Lifespan(scripted(UP, {"type": "lifespan.shutdown.failed", "message": "cannot close"}), "auto")
        await lifespan.startup()
        texts()
        await lifespan.shutdown()
        assert texts()[1:] == [("ERROR", "cannot close"), ("ERROR", "Application shutdown failed. Exiting.")]
        assert lifespan.should_exit

    run(main())


def test_application_that_returns_early_does_not_hang(run):
    async def application(scope, receive, send):
        await receive()

    async def main():
        lifespan = Lifespan(application, "on")
        await lifespan.startup()
        await lifespan.shutdown()

    run(main())


@pytest.mark.parametrize(
    "messages",
    [
        [DOWN],
        [UP, UP],
        [{"type": "http.response.start"}],
        [{"type": "lifespan.startup.perhaps"}],
    ],
)
def test_message_out_of_order_is_refused(run, texts, messages):
    refusals = []

    async def application(scope, receive, send):
        await receive()
        try:
            for message in messages:
                await send(message)
        except AssertionError as error:
            refusals.append(str(error))
            raise

    async def main():
        lifespan = Lifespan(application, "on")
        await lifespan.startup()
        await lifespan.shutdown()
        assert len(refusals) == 1 and refusals[0].endswith("on lifespan protocol.")

    run(main())
