# SPDX-License-Identifier: MIT
"""What libraries read, call and replace beyond the documented interface of loops, servers and transports."""

# Private methods


def test_one_turn_can_be_asked_for(loop):
    seen = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "second")))
    loop._run_once()
    assert seen == ["first"]
    loop._run_once()
    assert seen == ["first", "second"]
