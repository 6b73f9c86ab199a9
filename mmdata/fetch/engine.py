"""`fetch_all`: links in, bytes or reasons out, by the engine that the options name; pages of video sites apart."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from typing import TYPE_CHECKING

from mmdata.config import FetchOptions
from mmdata.fetch.links import Fetched, Link

if TYPE_CHECKING:
    from mmdata.fetch.settings import Settings


def fetch_all(
    links: Iterable[Link],
    options: FetchOptions,
    *,
    per_host: int | None = None,
    forbidden_ports: Collection[int] = (),
    blocklist: Container[str] | None = None,
) -> Iterator[Fetched]:
    """One `Fetched` for every link, in the order of completion. Raises ConfigError at once for options that are no use.

    Nothing begins before the first result is asked for; closing the iterator ends all that is under way.
    per_host: requests at once to one host by this call; `options.per_host` is over all workers, so a runner divides it.
    forbidden_ports: ports that no connection may be made to, whatever address they are on: Ray's own.
    blocklist: sha256 whose bytes are not given; read from `options.hash_blocklist` where it is not given, a path that
    is then relative to the working directory.
    """
    from mmdata.fetch.settings import settings_of

    settings = settings_of(options, forbidden_ports)
    if blocklist is None:
        blocklist = ()
        if options.hash_blocklist:
            from mmdata.fetch.blocklist import read_hash_list

            blocklist = read_hash_list(options.hash_blocklist)
    at_once = max(1, options.per_host if per_host is None else per_host)
    if not options.sites:
        return _engine(links, settings, at_once, blocklist)
    from mmdata.fetch.sites import SiteFetcher, without_site_links

    of_sites: list[Link] = []
    sites = SiteFetcher(of_sites, settings, blocklist)
    return _one_after_the_other(
        _engine(without_site_links(links, of_sites), settings, at_once, blocklist), sites.results()
    )


def _engine(links: Iterable[Link], settings: Settings, at_once: int, blocklist: Container[str]) -> Iterator[Fetched]:
    if settings.options.engine == "img2dataset":
        from mmdata.fetch.img2dataset import Img2datasetFetcher

        return Img2datasetFetcher(links, settings, blocklist).results()
    from mmdata.fetch.http import HttpFetcher

    return HttpFetcher(links, settings, at_once, blocklist).results()


def _one_after_the_other(*parts: Iterator[Fetched]) -> Iterator[Fetched]:
    for part in parts:
        yield from part  # which closes the part where this is closed
