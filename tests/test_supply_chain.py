"""What a release promises of its images: all of them, from pinned actions, held against the policies."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

_spec = importlib.util.spec_from_file_location("check_sbom", ROOT / "deploy/check_sbom.py")
check_sbom = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_sbom)


def component(name, *licences, purl="pkg:pypi/x@1"):
    stated = [{"license": {"name": text}} for text in licences]
    return {"name": name, "version": "1", "purl": purl, "licenses": stated}


def sbom(*components):
    return {"bomFormat": "CycloneDX", "components": list(components)}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_digest_and_say_their_version(workflow):
    used = re.findall(r"uses: *(\S+@.*)", workflow.read_text())
    assert used
    assert [each for each in used if not PINNED.fullmatch(each.strip())] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_why(workflow):
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_a_release_has_every_image():
    dockerfile = (ROOT / "deploy/images/Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    bases = set(re.findall(r"^FROM (\S+) AS|^COPY --from=(\S+)", dockerfile, re.MULTILINE))
    images = set(stages) - {name for pair in bases for name in pair}
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    assert set(release["jobs"]["image"]["strategy"]["matrix"]["target"]) == images
    terraform = (ROOT / "deploy/terraform/main.tf").read_text()
    [listed] = re.findall(r"images = \[(.*?)\]", terraform, re.DOTALL)
    assert set(re.findall(r'"([a-z-]+)"', listed)) == images


def test_nothing_is_signed_before_it_was_scanned():
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    steps = [str(step.get("uses", step.get("run"))) for step in release["jobs"]["image"]["steps"]]
    order = ["check_sbom", "scan-action", "cosign sign", "attest-build", "imagetools create"]
    found = [next(i for i, step in enumerate(steps) if text in step) for text in order]
    assert found == sorted(found)


@pytest.mark.parametrize(
    "licence",
    ["MIT", "Apache-2.0 AND (BSD-3-Clause OR GPL-2.0-only)", "Apache-2.0 WITH LLVM-exception",
     "License :: OSI Approved :: Apache Software License"],
)  # fmt: skip
def test_licences_that_are_taken(licence):
    assert check_sbom.problems(sbom(component("x", licence))) == []


@pytest.mark.parametrize("licence", ["GPL-3.0", "MIT AND AGPL-3.0-only", "SSPL-1.0", "Proprietary"])
def test_licences_that_are_not(licence):
    assert check_sbom.problems(sbom(component("x", licence))) == [f"x 1: {licence}"]


def test_a_package_must_state_a_licence_and_debians_are_debians():
    assert check_sbom.problems(sbom(component("x"))) == ["x 1: states no licence"]
    base = component("bash", "GPL-3.0-or-later", purl="pkg:deb/debian/bash@5")
    assert check_sbom.problems(sbom(base)) == []
    with pytest.raises(ValueError, match="no CycloneDX"):
        check_sbom.problems({"bomFormat": "CycloneDX", "components": []})
