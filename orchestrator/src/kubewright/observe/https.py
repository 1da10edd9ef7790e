# SPDX-License-Identifier: Apache-2.0
"""One HTTPS request, with a certificate's name that differs from the address."""

from __future__ import annotations

import asyncio
import ssl

#: Answers are small; more than this is not one of ours (bytes).
LIMIT = 4 * 1024 * 1024


class NoAnswer(Exception):
    """There was no HTTP answer; the message says why in words."""


async def request(
    address: str,
    port: int,
    path: str,
    context: ssl.SSLContext,
    *,
    seconds: float,
    server_name: str | None = None,
    body: bytes | None = None,
    limit: int = LIMIT,
) -> tuple[int, bytes]:
    """Return the status and body of a GET, or of a POST of JSON when there is a body.

    ``limit``: bytes that the answer may have.

    The certificate is checked against ``server_name``, else against the address. HTTP/1.0, so
    that the end of the answer is the end of the connection.

    :raises NoAnswer: not within ``seconds``, refused, or not with a trusted certificate.
    """
    head = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.0",
        f"Host: {server_name or address}",
    ]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    message = "\r\n".join([*head, "", ""]).encode() + (body or b"")
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(address, port, context, server_name or address, message, limit)
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {seconds:g} s") from error
    except ConnectionRefusedError as error:
        raise NoAnswer(f"nothing listens on port {port}") from error
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"its certificate is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS failed: {error.reason or error}") from error
    except ConnectionResetError as error:
        raise NoAnswer("it closed the connection") from error
    except OSError as error:
        raise NoAnswer(error.strerror or str(error)) from error


async def _exchange(
    address: str, port: int, context: ssl.SSLContext, name: str, message: bytes, limit: int
) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
    try:
        writer.write(message)
        await writer.drain()
        answer = await _read_all(reader, limit)
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise NoAnswer("what listens there does not speak HTTP")
    return int(words[1]), content


async def _read_all(reader: asyncio.StreamReader, limit: int) -> bytes:
    answer = bytearray()
    while piece := await reader.read(65536):
        answer += piece
        if len(answer) > limit:
            raise NoAnswer("the answer is too long")
    return bytes(answer)
