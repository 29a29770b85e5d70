"""The cost page says what its script computes, from the sizes that Terraform makes by default."""

import copy
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("cost", ROOT / "deploy/cost/cost.py")
cost = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cost)


@pytest.fixture
def inputs():
    return tomllib.loads((ROOT / "deploy/cost/inputs.toml").read_text())


def total(lines):
    return sum(line.amount for line in lines)


def test_the_page_shows_what_the_script_says(inputs):
    text = (ROOT / "docs/cost.md").read_text()
    [shown] = re.findall(r"<!-- python deploy/cost/cost.py -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert shown.strip() == cost.page(inputs).strip()


def test_sizes_are_the_defaults_of_terraform(inputs):
    size = inputs["sizes"]
    variables = (ROOT / "deploy/terraform/variables.tf").read_text()
    assert f'instance_types = ["{size["system_node"]}"], min = {size["system_nodes"]}' in variables
    assert f'optional(string, "{size["database"]}")' in variables
    assert f'optional(string, "{size["broker"]}")' in variables
    assert f'instance_types = ["{size["gpu"]}"' in variables
    main = (ROOT / "deploy/terraform/main.tf").read_text()
    keys = re.search(r"for_each = \{(.*?)\n  \}", main, re.DOTALL)[1]
    assert len(keys.strip().splitlines()) == size["kms_keys"]
    endpoints = (ROOT / "deploy/terraform/modules/network/endpoints.tf").read_text()
    listed = re.search(r"  endpoints = \{(.*?)\n  \}", endpoints, re.DOTALL)[1]
    assert len(re.findall(r'^    "', listed, re.MULTILINE)) == size["interface_endpoints"]


def test_an_idle_month_has_no_gpu(inputs):
    dearer = copy.deepcopy(inputs)
    dearer["prices"][inputs["sizes"]["gpu"]] *= 10
    assert total(cost.idle_month(dearer)) == total(cost.idle_month(inputs))
    assert total(cost.training_week(dearer)) == pytest.approx(
        10 * total(cost.training_week(inputs))
    )


def test_the_formulas_by_hand(inputs):
    inputs["gpu"] |= {"bf16_teraflops": 100.0, "share_of_compute": 0.5, "memory_gb_per_second": 1000.0,
                      "share_of_bandwidth": 0.5, "minutes_to_start": 0, "minutes_to_leave": 0}  # fmt: skip
    inputs["model"] |= {"parameters": 1e9, "width": 1000, "bytes_per_parameter": 2}
    inputs["evaluation"] |= {"prompts": 1000, "arms": 1, "prompt_tokens": 50, "answer_tokens": 10,
                             "batch": 10}  # fmt: skip
    # Reading: 1e14 operations at 5e13 a second. Writing: 1000 steps of 2e9 bytes at 5e11 a second.
    assert cost.evaluation_hours(inputs) * 3600 == pytest.approx(2 + 4)
    inputs["training"] |= {"layers": 2, "features": 10_000, "hours": 1}
    assert cost.training_tokens(inputs) == pytest.approx(5e13 / (2e9 + 2.4e8) * 3600)


def test_a_missing_price_is_named(tmp_path, capsys, monkeypatch):
    path = tmp_path / "mine.toml"
    path.write_text(
        (ROOT / "deploy/cost/inputs.toml").read_text().replace("nat_gateway =", "nat =")
    )
    monkeypatch.setattr("sys.argv", ["cost.py", "--inputs", str(path)])
    assert cost.main() == 2
    assert "lacks 'nat_gateway'" in capsys.readouterr().err
