#!/usr/bin/env python3
"""Fail a build when a policy misses its win line.

    export INTERPRETOPS_API=https://interpretops.example.com INTERPRETOPS_API_KEY=iop_...
    python gate.py --policy policy.yaml --request eval.json

It asks the platform for an evaluation (`POST /eval`), waits for the Risk Card, shows every criterion with
its interval, and ends with

    0   every criterion was met
    1   one was missed, or not measured
    2   there is no card: a mistake in what was asked, no permission, a job that failed, or no time left

The same run of a pipeline, tried again, finds the evaluation that its first try began. A run that is
cancelled cancels it. It needs Python 3.9 and nothing else.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

MET, MISSED, NO_CARD = 0, 1, 2
PATIENCE = 5  # tries of one request, for an edge that is being replaced


class NoCardError(Exception):
    """Why there is no card."""


class Platform:
    """One platform, spoken to by REST.

    Args:
        url: Where its edge answers.
        key: An API key with the role `operator`.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        """One request; what the platform is too busy for now is asked again.

        Raises:
            NoCardError: With what the platform says is wrong, and how to mend it.
        """
        content = None if body is None else json.dumps(body).encode()
        every = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        request = urllib.request.Request(
            self._url + path, content, {**every, **(headers or {})}, method=method
        )
        for attempt in range(1, PATIENCE + 1):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 502, 503, 504) or attempt == PATIENCE:
                    raise NoCardError(_problem(error)) from None
                pause = float(error.headers.get("Retry-After") or 2**attempt)
            except OSError as error:
                if attempt == PATIENCE:
                    raise NoCardError(f"{self._url} does not answer: {error}") from None
                pause = 2.0**attempt
            time.sleep(min(pause, 30))
        raise AssertionError("unreachable")


def evaluate(platform: Platform, body: dict[str, Any], run: str, minutes: float) -> dict[str, Any]:
    """Have a policy evaluated, and return the job when it is over.

    Args:
        platform: Where.
        body: As `POST /eval` takes it.
        run: The run of the pipeline; with the body it names the evaluation.
        minutes: How long to wait at most.

    Raises:
        NoCardError: When there is none in that time, or the job failed.
    """
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    deadline = time.monotonic() + minutes * 60
    job = platform.call("POST", "/eval", body, {"Idempotency-Key": f"{run}-{digest}"})
    print(f"job {job['id']}: {job['state'].lower()}", flush=True)
    said = ""
    try:
        while job["state"] in ("QUEUED", "RUNNING"):
            if time.monotonic() > deadline:
                raise NoCardError(
                    f"job {job['id']} is still {job['state'].lower()} after {minutes:g} min"
                )
            time.sleep(2)
            job = platform.call("GET", f"/jobs/{job['id']}")
            progress = job.get("progress") or {}
            stage = progress.get("stage", "")
            if stage and stage != said:
                print(f"  {stage}", flush=True)
                said = stage
    except (KeyboardInterrupt, NoCardError):
        platform.call("POST", f"/jobs/{job['id']}/cancel")
        print(f"job {job['id']} was asked to stop", flush=True)
        raise
    if job["state"] != "SUCCEEDED":
        error = job.get("error") or {}
        raise NoCardError(f"job {job['id']} {job['state'].lower()}: {error.get('message', error)}")
    return job


def judge(card: dict[str, Any], wanted: list[str]) -> list[dict[str, Any]]:
    """The criteria that the build depends on.

    Raises:
        NoCardError: When one is wanted that the card does not have.
    """
    names = {criterion["name"] for criterion in card["win_line"]}
    unknown = sorted(set(wanted) - names)
    if unknown:
        raise NoCardError(
            f"no criterion is called {unknown[0]}; there are {', '.join(sorted(names))}"
        )
    return [each for each in card["win_line"] if not wanted or each["name"] in wanted]


def table(criteria: list[dict[str, Any]]) -> str:
    """Every criterion with its figure, interval and count, as Markdown."""
    lines = ["| | Criterion | Limit | Figure | 95 % interval | n |", "|---|---|---|---|---|---|"]
    for each in criteria:
        value = each["value"]
        mark = "met" if each["passed"] else "**missed**"
        sign = "≥" if each["sense"] == "at least" else "≤"
        figure = ("not measured", "", "")
        if value is not None:
            interval = f"{value['low']:.3g} to {value['high']:.3g}"
            figure = (f"{value['value']:.3g}", interval, str(value["n"]))
        name = f"{each['name']} ({each['source']})"
        lines.append(f"| {mark} | {name} | {sign} {each['limit']:g} | {' | '.join(figure)} |")
    return "\n".join(lines)


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--request", type=Path, required=True, help="body of POST /eval, as JSON")
    parser.add_argument(
        "--policy", type=Path, help="a policy file; else the request names a policy"
    )
    parser.add_argument("--criterion", action="append", default=[], metavar="NAME",
                        help="depend on this one only; may be given again (default: all)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60, help="patience (default: 60)")
    parser.add_argument(
        "--run", default=_run_of_the_pipeline(), help="names this run of the pipeline"
    )
    parser.add_argument("--card", type=Path, help="write the Risk Card there, as JSON")
    parser.add_argument("--summary", type=Path, help="append the table there, as Markdown")
    chosen = parser.parse_args()
    try:
        url, key = (os.environ[f"INTERPRETOPS_{name}"] for name in ("API", "API_KEY"))
        body = json.loads(chosen.request.read_text(encoding="utf-8"))
        if chosen.policy is not None:
            body["policy_yaml"] = chosen.policy.read_text(encoding="utf-8")
    except KeyError as error:
        return _fail(f"{error.args[0]} is not set")
    except (OSError, ValueError) as error:
        return _fail(str(error))
    signal.signal(signal.SIGTERM, _interrupt)  # how a runner cancels
    platform = Platform(url, key)
    try:
        job = evaluate(platform, body, chosen.run, chosen.minutes)
        answer = platform.call("GET", f"/risk-cards/{job['result']}")
        criteria = judge(answer["card"], chosen.criterion)
    except NoCardError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("cancelled")
    if chosen.card is not None:
        chosen.card.write_text(json.dumps(answer["card"], indent=2), encoding="utf-8")
    missed = list(dict.fromkeys(each["name"] for each in criteria if not each["passed"]))
    verdict = f"missed: {', '.join(missed)}" if missed else "every criterion was met"
    text = f"Risk Card `{job['result']}`: {verdict}\n\n{table(criteria)}\n"
    print(text)
    if chosen.summary is not None:
        with chosen.summary.open("a", encoding="utf-8") as file:
            file.write(text)
    return MISSED if missed else MET


def _run_of_the_pipeline() -> str:
    for name in ("GITHUB_RUN_ID", "CI_PIPELINE_ID"):
        if os.environ.get(name):
            return f"{name.partition('_')[0].lower()}-{os.environ[name]}"
    return f"by-hand-{os.getpid()}-{int(time.time())}"


def _problem(error: urllib.error.HTTPError) -> str:
    """What a problem document says."""
    try:
        document = json.load(error)
    except ValueError:
        return f"{error.code} {error.reason}"
    said = [str(document.get(name, "")) for name in ("title", "detail", "fix")]
    return f"{error.code} {'. '.join(part.rstrip('.') for part in said if part)}"


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(why: str) -> int:
    print(f"no Risk Card: {why}", file=sys.stderr)
    return NO_CARD


if __name__ == "__main__":
    sys.exit(main())
