import numpy as np
import pytest

from benchmarks.parity import SameArrays, same_quality


@pytest.fixture
def shown(tmp_path):
    def show(name, **arrays):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return {"file": str(path)}

    return show


LOGITS = np.linspace(-20, 20, 24, dtype=np.float32).reshape(1, 4, 6)


def judge(shown, **theirs):
    evidence = {"bare": shown("bare", logits=LOGITS, resid_post=1000 * LOGITS)}
    evidence["peer"] = shown("peer", **theirs)
    return SameArrays("bare")(evidence)["peer"]


def test_logits_within_the_tolerance_pass_and_are_reported(shown):
    finding = judge(shown, logits=LOGITS + 5e-5)
    assert finding.refusal is None
    assert finding.figure["logits"] == pytest.approx(5e-5, rel=0.1)


@pytest.mark.parametrize("position", [0, 11, 23])
def test_one_logit_off_is_enough_to_be_refused(shown, position):
    off = LOGITS.copy()
    off.flat[position] += 2e-4
    assert "logits differ by 2.0e-04" in judge(shown, logits=off).refusal


def test_nan_is_refused(shown):
    off = LOGITS.copy()
    off[0, 0, 0] = np.nan
    assert judge(shown, logits=off).refusal is not None


def test_activations_are_compared_relative_to_the_largest(shown):
    assert judge(shown, resid_post=1000 * LOGITS + 1.0).refusal is None
    assert "resid_post" in judge(shown, resid_post=1000 * LOGITS + 10.0).refusal


def test_other_shapes_are_refused(shown):
    assert "shape" in judge(shown, logits=LOGITS[:, :2]).refusal


def test_showing_nothing_is_refused(shown):
    assert "nothing to compare" in judge(shown, something_else=LOGITS).refusal


def test_without_the_reference_nobody_is_compared(shown):
    findings = SameArrays("bare")({"peer": shown("peer", logits=LOGITS)})
    assert "reference" in findings["peer"].refusal


def test_a_dictionary_that_explains_less_is_refused():
    findings = same_quality(
        {
            "ours": {"fvu": 0.500, "l0": 32, "rule": "unit"},
            "close": {"fvu": 0.504, "l0": 32, "rule": "unit"},
            "worse": {"fvu": 0.506, "l0": 32, "rule": "unit"},
            "other": {"fvu": 0.600, "l0": 32, "rule": "rescale"},
        }
    )
    assert findings["ours"].refusal is None
    assert findings["close"].refusal is None
    assert findings["other"].refusal is None, "alone under its rule"
    assert "FVU 0.5060" in findings["worse"].refusal
