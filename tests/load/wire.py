"""HTTP/1.1 on a bare connection: cheap enough for many clients, and free to misbehave."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Line:
    """One client's connection, opened when needed and opened again after a fault."""

    host: str
    port: int
    _pipes: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None)

    async def post(self, path: str, body: object, *, pauses: int = 0) -> tuple[int, Any]:
        """(status, JSON) of an answer; sent in so many more pieces, a tenth of a second apart."""
        reader, writer = await self._open()
        await self._send(writer, path, body, pauses)
        status, length = 0, 0
        while line := (await reader.readline()).strip():
            name, _, value = line.partition(b" ")
            status = int(value[:3]) if name.startswith(b"HTTP/") else status
            length = int(value) if name.lower() == b"content-length:" else length
        if not status:
            raise ConnectionError("closed")
        return status, json.loads(await reader.readexactly(length))

    async def vanish(self, path: str, body: object) -> None:
        """Asks and leaves before the answer."""
        _, writer = await self._open()
        await self._send(writer, path, body, 0)
        await asyncio.sleep(0.002)
        self.close()

    def close(self) -> None:
        """Drops the connection."""
        if self._pipes:
            self._pipes[1].close()
        self._pipes = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._pipes is None:
            self._pipes = await asyncio.open_connection(self.host, self.port)
        return self._pipes

    async def _send(
        self, writer: asyncio.StreamWriter, path: str, body: object, pauses: int
    ) -> None:
        text = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\n\r\n").encode()  # fmt: skip
        whole = head + text
        size = len(whole) // (pauses + 1) + 1
        for at in range(0, len(whole), size):
            if at:
                await asyncio.sleep(0.1)
            writer.write(whole[at : at + size])
            await writer.drain()
