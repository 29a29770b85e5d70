"""The programs of the kit: they serve, show what they count, and stop when they are told to."""

import asyncio

import httpx
import pytest
from interpretops_platform.health import serves_grpc
from interpretops_platform.telemetry.settings import TelemetrySettings
from interpretops_service.__main__ import main
from interpretops_stack.ports import free_ports

SERVICES = ("tracer", "sae_trainer", "circuit_search", "evaluator", "reporter")


async def test_a_service_serves_until_it_is_told_to_stop(installation):
    ports = free_ports((f"{name} {what}" for name in SERVICES for what in ("rpc", "metrics")), {})
    rpc = {name: ports[f"{name} rpc"] for name in SERVICES}
    metrics = {name: ports[f"{name} metrics"] for name in SERVICES}
    programs = {
        name: installation.program(
            "serve",
            name,
            grpc=installation.settings.grpc.model_copy(update={"port": rpc[name]}),
            telemetry=TelemetrySettings(metrics_port=metrics[name]),
        )
        for name in SERVICES
    }
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for name, program in programs.items():
            await program.until(lambda: serves_grpc(rpc[name]))
            shown = await client.get(f"http://127.0.0.1:{metrics[name]}/metrics")
            assert "interpretops_rpc_server_handled_total" in shown.text
    ends = await asyncio.gather(*(program.terminate() for program in programs.values()))
    assert ends == [0] * len(SERVICES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "nothing"], "no service 'nothing' is installed"),
        (["work", "nothing"], "no handler of jobs of kind 'nothing' is installed"),
        (["serve", "tracer", "--config", "nowhere.yaml"], "there is no settings file"),
    ],
)
def test_what_is_set_up_wrong_is_said_in_a_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Fix:" in error
    assert "Traceback" not in error
