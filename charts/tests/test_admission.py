"""A worker that may patch pods may patch the annotations of its own pod, and nothing else."""

import copy

import celpy
import pytest
from interpretops_platform.jobs.pod import _BUSY

WORKER = "system:serviceaccount:ops:interpretops-worker"
POD = {
    "metadata": {"name": "worker-a", "labels": {"app": "x"}, "annotations": {}},
    "spec": {"containers": [{"name": "worker", "image": "ours"}]},
}


@pytest.fixture(scope="module")
def policy(rendered):
    return rendered("eks").one("ValidatingAdmissionPolicy", "ops-interpretops-worker-marks")["spec"]


def allows(policy, change, *, pod="worker-a", user=WORKER):
    """Whether the policy lets a caller change a pod, judged by its own expressions."""
    old, new = copy.deepcopy(POD), copy.deepcopy(POD)
    change(new)
    extra = {"authentication.kubernetes.io/pod-name": [pod]} if pod else {"other": ["x"]}
    request = {"userInfo": {"username": user, "extra": extra}}
    known = {"request": request, "object": new, "oldObject": old}
    activation = {name: celpy.json_to_cel(value) for name, value in known.items()}
    environment = celpy.Environment()

    def true(rule):
        return bool(
            environment.program(environment.compile(rule["expression"])).evaluate(activation)
        )

    if not all(true(condition) for condition in policy["matchConditions"]):
        return True  # it is not about this caller
    return all(true(rule) for rule in policy["validations"])


def mark(pod):
    pod["metadata"]["annotations"].update(_BUSY)


def test_the_marks_of_a_worker_are_let_through(policy):
    assert allows(policy, mark)


@pytest.mark.parametrize(
    ("change", "caller"),
    [
        (mark, {"pod": "worker-b"}),
        (mark, {"pod": None}),
        (lambda pod: pod["spec"]["containers"][0].update(image="theirs"), {}),
        (lambda pod: pod["metadata"]["labels"].update(app="y"), {}),
    ],
)
def test_anything_else_of_a_worker_is_refused(policy, change, caller):
    assert not allows(policy, change, **caller)


def test_others_are_none_of_its_business(policy):
    change = POD["spec"]["containers"][0]["image"]
    assert allows(policy, lambda pod: pod["spec"].update(was=change), user="admin", pod=None)
    assert policy["failurePolicy"] == "Fail"
