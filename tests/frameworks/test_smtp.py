# SPDX-License-Identifier: MIT
"""Mail: aiosmtpd takes it, in the loop and in a thread; aiosmtplib and smtplib send it, in the clear and after STARTTLS."""

import asyncio
import contextlib
import smtplib
import ssl
from email.message import EmailMessage

import pytest
import trustme
from http_wire import free_address

aiosmtplib = pytest.importorskip("aiosmtplib")
pytest.importorskip("aiosmtpd")

from aiosmtpd.controller import Controller  # noqa: E402  # after importorskip()
from aiosmtpd.smtp import SMTP  # noqa: E402  # after importorskip()

BIG_LINES = 20_000


class Mailbox:
    """Keeps what arrives; refuses one recipient."""

    def __init__(self):
        self.letters = []
        self.loops = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.loops.add(type(asyncio.get_running_loop()).__module__)
        self.letters.append((envelope.mail_from, envelope.rcpt_tos, len(envelope.content), session.ssl is not None))
        return "250 OK"


@pytest.fixture(scope="module")
def tls():
    """The contexts of a server and of its clients."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def letter(number, lines=1):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"{number}@here", f"{number}@there", str(number)
    message.set_content("a line of a letter\n" * lines)
    return message


@contextlib.asynccontextmanager
async def serving(mailbox, **options):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "starttls"])
def test_letters_at_once(same_story, tls, encrypted):
    async def scene():
        mailbox = Mailbox()
        options = {"tls_context": tls[0], "require_starttls": True} if encrypted else {}
        async with serving(mailbox, **options) as port:

            async def send(number):
                client = aiosmtplib.SMTP(
                    hostname="127.0.0.1", port=port, start_tls=encrypted, tls_context=tls[1] if encrypted else None
                )
                async with client:
                    for turn in range(3):
                        await client.send_message(letter(number, lines=turn + 1))

            await asyncio.gather(*(send(n) for n in range(10)))
        return sorted(mailbox.letters)

    letters = same_story(scene)
    assert [(sender, to) for sender, to, _, _ in letters[::3]] == [(f"{n}@here", [f"{n}@there"]) for n in range(10)]
    assert {secure for *_, secure in letters} == {encrypted}


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "starttls"])
def test_big_letter_and_a_refusal(same_story, tls, encrypted):
    async def scene():
        mailbox = Mailbox()
        async with serving(mailbox, tls_context=tls[0]) as port:
            client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=encrypted, tls_context=tls[1])
            async with client:
                await client.send_message(letter(1, BIG_LINES))
                with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                    await client.send_message(letter(2), recipients=["nobody@there"])
                await client.send_message(letter(3))
        return mailbox.letters

    letters = same_story(scene)
    assert [sender for sender, *_ in letters] == ["1@here", "3@here"]
    assert letters[0][2] > BIG_LINES * len("a line of a letter\n")


def test_controller_in_a_thread(loop_factory, loop_name, tls):
    """Controller runs the loop in a thread of its own; smtplib blocks in this one."""
    mailbox = Mailbox()
    loop = loop_factory()
    host, port = free_address()
    controller = Controller(mailbox, hostname=host, port=port, loop=loop, tls_context=tls[0])
    controller.start()
    try:
        for number in range(5):
            with smtplib.SMTP(host, port) as client:
                client.starttls(context=tls[1])
                client.send_message(letter(number))
    finally:
        controller.stop()
    assert [(sender, secure) for sender, _, _, secure in mailbox.letters] == [(f"{n}@here", True) for n in range(5)]
    assert {module.partition(".")[0] for module in mailbox.loops} == {loop_name}
    loop.close()
