"""HTTP to hosts that tenants name: every connection goes to an address that was checked.

Identity providers (`troupe.actors.auth.peer_http`) and receivers of alarms are spoken to through
this transport; what they may answer, and for how long, is for those who speak to them.
"""

import ipaddress
import ssl

import httpx2

from troupe.common.outbound import HostNotAllowed, OutboundGuard


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects to checked addresses only.

    Args:
        guard: Decides which.
        tls: Trust for ``https``; the system's by default.
    """

    def __init__(self, guard: OutboundGuard, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls if tls is not None else True,
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=0),
            trust_env=False,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request to the first address that answers.

        Raises:
            HostNotAllowed: The host may not be connected to.
            PeerUnavailable: It does not resolve.
            TransportError: It does not answer.
        """
        url = request.url
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        addresses = await self._guard.resolve(url.host, port)
        if url.scheme != "https" and not all(map(self._guard.is_excepted, addresses)):
            raise HostNotAllowed(f"The host {url.host} must be reached over https.")
        # The Host header was set from the name; TLS checks the certificate against the name too.
        request.extensions = {**request.extensions, "sni_hostname": url.raw_host.decode("ascii")}
        for address in addresses[:-1]:
            try:
                return await self._send(request, url, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._send(request, url, addresses[-1])

    async def _send(
        self,
        request: httpx2.Request,
        url: httpx2.URL,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    ) -> httpx2.Response:
        request.url = url.copy_with(host=str(address))
        try:
            return await self._inner.handle_async_request(request)
        finally:
            request.url = url

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()
