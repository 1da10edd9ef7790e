# SPDX-License-Identifier: Apache-2.0
"""One HTTPS request to one machine, or in words why there was no answer.

aiohttp is what `kubernetes` asks API servers by, and comes with it. It is imported late: commands
that ask nobody start without it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager


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
) -> tuple[int, bytes]:
    """Return the status and body of a GET, or of a POST of JSON when there is a body.

    The certificate is checked against ``server_name``, else against the address. Goes straight
    there, whatever proxies this machine has.

    :raises NoAnswer: not within ``seconds``, refused, or not with a trusted certificate.
    """
    import aiohttp

    with told(seconds):
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                timeout=aiohttp.ClientTimeout(total=seconds),
                headers={"Content-Type": "application/json"} if body is not None else None,
            ) as session,
            session.request(
                "GET" if body is None else "POST",
                f"https://{address}:{port}{path}",
                data=body,
                server_hostname=server_name,
                allow_redirects=False,
            ) as answer,
        ):
            return answer.status, await answer.read()


@contextmanager
def told(seconds: float) -> Iterator[None]:
    """Within it, what aiohttp raises becomes NoAnswer. ``seconds``: the limit of the request."""
    import aiohttp

    try:
        yield
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {seconds:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", error.certificate_error)
        raise NoAnswer(f"its certificate is not trusted: {reason}") from error
    except aiohttp.ClientConnectorError as error:
        raise NoAnswer(_connecting(error.os_error, error.port)) from error
    except aiohttp.ServerDisconnectedError as error:
        raise NoAnswer("it closed the connection") from error
    except aiohttp.ClientOSError as error:
        raise NoAnswer(error.strerror or str(error)) from error
    except aiohttp.ClientError as error:
        raise NoAnswer("the service there does not speak HTTP") from error


def _connecting(error: OSError, port: int | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on port {port}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ConnectionResetError):
        return "it closed the connection"
    return error.strerror or str(error)
