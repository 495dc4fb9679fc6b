"""A bot that watches websites: a profile is one site, and its configuration says what to expect there.

    {"url": "https://example.org", "every": 30, "expect_status": 200, "expect_text": "Welcome", "timeout": 10}

Only `url` is required; `every` and `timeout` are seconds. A visit is pushed as a record of kind `check`, a
configuration that makes no sense as a `problem`, and then the bot waits for a better one.

    python examples/site_watcher.py --url http://127.0.0.1:7682 --key enrol_... --count 3
"""

import argparse
import asyncio
import logging
import sys
import time
from typing import Annotated, Any

import httpx2
from pydantic import BaseModel, Field, HttpUrl, ValidationError

from rota import Bot, Job
from rota.errors import RotaError
from rota.sdk import run_bots


class Site(BaseModel):
    """The configuration of a profile."""

    url: HttpUrl
    every: Annotated[float, Field(ge=0.1, le=86_400)] = 30
    expect_status: int = 200
    expect_text: str = ""
    timeout: Annotated[float, Field(gt=0, le=300)] = 10


async def watch(job: Job) -> None:
    """Visits the job's site again and again, until the job is stopping."""
    async with httpx2.AsyncClient(follow_redirects=True, headers={"Connection": "close"}) as client:
        while not job.stopping:
            job.reconfigured.clear()
            try:
                site = Site.model_validate(job.config)
            except ValidationError as error:
                problem = "; ".join(f"{wrong['loc'][0]}: {wrong['msg']}" for wrong in error.errors())
                job.status(problem)
                await job.push({"problem": problem, "revision": job.revision}, kind="problem")
                await job.reconfigured.wait()
            else:
                check, text = await visit(client, site)
                job.status(text)
                await job.push(check, kind="check")
                await job.reconfigured.wait(site.every)


async def visit(client: httpx2.AsyncClient, site: Site, most: int = 2**20) -> tuple[dict[str, Any], str]:
    """Fetches the site once, reading `most` bytes; what to record, and a text for people."""
    url, began, status, error = str(site.url), time.perf_counter(), None, None
    try:
        async with asyncio.timeout(site.timeout), client.stream("GET", url, timeout=None) as response:
            status, page = response.status_code, bytearray()
            async for chunk in response.aiter_bytes(65_536):
                page += chunk
                if len(page) >= most:
                    break
        if status != site.expect_status:
            error = f"status {status} instead of {site.expect_status}"
        elif site.expect_text not in page[:most].decode(response.encoding or "utf-8", "replace"):
            error = f"{site.expect_text!r} is not on the page"
    except TimeoutError:
        error = f"no answer within {site.timeout:g} s"
    except Exception as failure:  # noqa: BLE001 - name, TLS, redirects …: whatever it is, that is the finding
        error = f"{type(failure).__name__}: {failure}"
    latency = round((time.perf_counter() - began) * 1000, 1)
    check = {"ok": not error, "status": status, "latency_ms": latency, "url": url}
    return (check | {"error": error}, error) if error else (check, f"{status} in {latency:.0f} ms")


def main() -> None:
    """Runs one bot, or several in this process."""
    options = argparse.ArgumentParser(description="Watch websites as bots of rota.")
    for option in ("url", "key", "hostname", "instance", "spool"):
        options.add_argument(f"--{option}", help="as `rota.Bot` takes it")
    options.add_argument("--count", type=int, default=1, help="so many watchers, in slots INSTANCE-1, -2 …")
    said = options.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would tell of every call
    name = said.instance or "watcher"
    slots = [f"{name}-{n + 1}" for n in range(said.count)] if said.count > 1 else [said.instance]
    try:
        bots = [Bot(said.url, said.key, hostname=said.hostname, instance=slot, spool=said.spool) for slot in slots]
        for bot in bots:
            bot.work(watch)
        run_bots(bots)
    except RotaError as error:
        sys.exit(f"site_watcher: {error}")


if __name__ == "__main__":
    main()
