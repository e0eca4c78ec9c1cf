# SPDX-License-Identifier: MIT
"""Random programs that are played on both loops: what happens in them, the story, has to be the same."""

import asyncio
import random

PROGRAMS_PER_SEED = 20


class ProtocolBug(Exception):
    """What a protocol of a program raises."""


async def settle():
    # A loopback delivers at once, so a few turns that wait bring every consequence. No event says "no more".
    for _ in range(3):
        await asyncio.sleep(0.0001)


def check_stories(loop_factory, seed, make_program, play):
    """`play(loop_factory, program)` returns the story of what `make_program(dice)` has made."""
    dice = random.Random(seed)
    for number in range(PROGRAMS_PER_SEED):
        program = make_program(dice)
        expected = play(asyncio.SelectorEventLoop, program)
        assert play(loop_factory, program) == expected, f"seed {seed}, program {number}: {program}"
