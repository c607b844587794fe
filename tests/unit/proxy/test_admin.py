"""HAProxy's command line, played by a server that says what HAProxy 2.6 was seen to say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vmorch.proxy.admin import CommandLine, Unreachable

ANSWERS = "\n> \n> Server deleted.\n> New server registered.\n\n> "


def asked(directory: Path, commands: list[str], answer: str) -> tuple[str, list[str]]:
    """What the server was asked, and the answers that it was understood to give."""
    socket, heard = directory / "admin.sock", []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.read()).decode())
        writer.write(answer.encode())
        writer.close()

    async def ask() -> list[str]:
        async with await asyncio.start_unix_server(hear, socket):
            return await CommandLine(socket).ask_each(commands)

    answers = asyncio.run(ask())
    return heard[0], answers


def test_several_commands_are_asked_at_once_and_each_has_its_answer(tmp_path: Path) -> None:
    commands = ["set server b/s state maint", "del server b/s", "add server b/t 10.0.0.1:80"]
    text, answers = asked(tmp_path, commands, ANSWERS)
    assert text == "prompt\n" + "".join(f"{command}\n" for command in commands)
    assert answers == ["", "Server deleted.", "New server registered."]


@pytest.mark.parametrize("cut", range(len(ANSWERS) - 1))
def test_a_worker_that_leaves_in_the_middle_is_unreachable(tmp_path: Path, cut: int) -> None:
    with pytest.raises(Unreachable):
        asked(tmp_path, ["one", "two", "three"], ANSWERS[:cut])


def test_no_answer_at_all_is_a_worker_that_left(tmp_path: Path) -> None:
    socket = tmp_path / "admin.sock"

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ask() -> str:
        async with await asyncio.start_unix_server(leave, socket):
            return await CommandLine(socket).told("show proc")

    with pytest.raises(Unreachable):
        asyncio.run(ask())
