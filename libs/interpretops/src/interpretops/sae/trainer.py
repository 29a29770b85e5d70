"""Optimisation of one dictionary on given activations, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interpretops.errors import InterpretOpsError
from interpretops.sae.gated import GatedSAE
from interpretops.sae.jumprelu import JumpReLUSAE
from interpretops.sae.module import SAE, StepInput
from interpretops.sae.spec import Kind, TrainingRule
from interpretops.sae.topk import BatchTopKSAE, TopKSAE

if TYPE_CHECKING:
    from interp_engine import Address


def new_sae(
    rule: TrainingRule,
    d_in: int,
    d_sae: int,
    *,
    address: Address | None = None,
    generator: torch.Generator | None = None,
) -> SAE:
    """A freshly initialised dictionary of the kind the rule names.

    Raises:
        InterpretOpsError: When the rule cannot be used at this width.
    """
    rule.check_width(d_sae)
    if rule.kind is Kind.TOPK:
        return TopKSAE(d_in, d_sae, rule.k, address=address, generator=generator)
    if rule.kind is Kind.BATCH_TOPK:
        return BatchTopKSAE(d_in, d_sae, rule.k, address=address, generator=generator)
    if rule.kind is Kind.JUMPRELU:
        return JumpReLUSAE(d_in, d_sae, address=address, generator=generator)
    return GatedSAE(d_in, d_sae, address=address, generator=generator)


@dataclass(frozen=True)
class StepFigures:
    """What one step measured, as scalar tensors (so that a GPU need not wait for them).

    Attributes:
        loss: The whole loss.
        l0: Mean active features per token.
        fvu: Squared error as a share of the batch's variance.
        dead_share: Share of features that have not fired for `dead_after_tokens`.
    """

    loss: Tensor
    l0: Tensor
    fvu: Tensor
    dead_share: Tensor

    def as_floats(self) -> dict[str, float]:
        """The figures by name."""
        return {name: float(getattr(self, name)) for name in self.__dataclass_fields__}


class SAETrainer:
    """Trains one dictionary on batches of activations that the caller supplies.

    Args:
        sae: What to train; its device is where steps run.
        rule: How.
        total_steps: Steps the schedules of learning rate and penalty are laid out for.
        batch: Tokens per step, from which the default of `dead_after_tokens` follows.
    """

    def __init__(self, sae: SAE, rule: TrainingRule, total_steps: int, batch: int) -> None:
        rule.check_width(sae.d_sae)
        self.sae, self.rule = sae, rule
        self.total_steps = total_steps
        self.step_index = 0
        default_window = min(10_000_000, max(batch, total_steps * batch // 8))
        self.dead_after = rule.dead_after_tokens or default_window
        device = sae.W_dec.device
        self.since_fired = torch.zeros(sae.d_sae, dtype=torch.int64, device=device)
        self._peak_lr = rule.learning_rate(sae.d_sae)
        self._optimizer = torch.optim.Adam(
            sae.parameters(), lr=self._peak_lr, betas=(0.9, 0.999), fused=device.type == "cuda"
        )

    def begin(self, x: Tensor, b_dec_init: str = "geometric_median") -> None:
        """Set what depends on data before the first step.

        Args:
            x: `[tokens, d_in]` sample of (scaled) activations.
            b_dec_init: `geometric_median`, `mean` or `zeros`.
        """
        with torch.no_grad():
            if b_dec_init == "geometric_median":
                self.sae.b_dec.copy_(geometric_median(x))
            elif b_dec_init == "mean":
                self.sae.b_dec.copy_(x.mean(0))
        self.sae.start_from(x, self.rule)

    def step(self, x: Tensor) -> StepFigures:
        """One optimisation step.

        Args:
            x: `[tokens, d_in]` activations, float32, on the dictionary's device.

        Raises:
            InterpretOpsError: When the activations or the loss are not finite.
        """
        sae, rule = self.sae, self.rule
        dead = (self.since_fired >= self.dead_after).nonzero().flatten()
        out = sae.objective(x, StepInput(rule, dead, self._sparsity_weight()))
        if not bool(torch.isfinite(out.total)):
            self._explain_not_finite(x)
        out.total.backward()  # type: ignore[no-untyped-call]
        if rule.decoder_norm == "unit":
            remove_parallel_gradient(sae.W_dec)
        if rule.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(sae.parameters(), rule.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            if rule.decoder_norm == "unit":
                sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-8))
            self.since_fired += x.shape[0]
            self.since_fired[out.fired] = 0
            variance = (x - x.mean(0)).square().sum()
            fvu = out.residual.square().sum() / variance
        self.step_index += 1
        n_dead = torch.tensor(dead.shape[0] / sae.d_sae)
        return StepFigures(out.total.detach(), out.l0, fvu, n_dead)

    def state(self) -> dict[str, Tensor]:
        """Everything a later trainer needs to go on exactly here."""
        state = {f"sae.{name}": value for name, value in self.sae.state_dict().items()}
        for name, parameter in self.sae.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                state[f"adam.{name}.{key}"] = value
        state["since_fired"] = self.since_fired
        state["step"] = torch.tensor(self.step_index)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        self.sae.load_state_dict(
            {key[4:]: value for key, value in state.items() if key.startswith("sae.")}
        )
        for name, parameter in self.sae.named_parameters():
            prefix = f"adam.{name}."
            for key, value in state.items():
                if not key.startswith(prefix):
                    continue
                # Adam walks parameter and moments together: give them the parameter's layout.
                like = torch.empty_like(parameter) if value.ndim else torch.empty_like(value)
                self._optimizer.state[parameter][key[len(prefix) :]] = like.copy_(value)
        self.since_fired.copy_(state["since_fired"])
        self.step_index = int(state["step"])

    def _learning_rate(self) -> float:
        warmup = self.rule.warmup * self.total_steps
        decay = self.rule.decay * self.total_steps
        done, left = self.step_index + 1, self.total_steps - self.step_index
        return self._peak_lr * min(1.0, done / max(warmup, 1), left / max(decay, 1))

    def _sparsity_weight(self) -> float:
        warmup = self.rule.sparsity_warmup * self.total_steps
        return self.rule.sparsity_coefficient * min(1.0, (self.step_index + 1) / max(warmup, 1))

    def _explain_not_finite(self, x: Tensor) -> None:
        where = "" if self.sae.address is None else f" at {self.sae.address}"
        if bool(torch.isfinite(x).all()):
            raise InterpretOpsError(
                f"training{where} diverged at step {self.step_index + 1}: the loss is not finite",
                fix=f"lower lr (it is {self._peak_lr:.1e})",
            )
        broken = int((~torch.isfinite(x).all(-1)).sum())
        raise InterpretOpsError(
            f"{broken} of {x.shape[0]} activations{where} are NaN or infinite",
            fix="load the model with dtype float32 (or bfloat16, not float16), or choose another "
            "site",
        )


@torch.no_grad()
def remove_parallel_gradient(W_dec: Tensor) -> None:
    """Remove from each decoder row's gradient its part along the row, which only changes its norm.

    Args:
        W_dec: `[d_sae, d_in]` parameter with unit rows; its `.grad` is changed.
    """
    grad = W_dec.grad
    if grad is not None:
        grad.addcmul_(W_dec, (grad * W_dec).sum(1, keepdim=True), value=-1)


@torch.no_grad()
def geometric_median(points: Tensor, *, iterations: int = 100, tolerance: float = 1e-5) -> Tensor:
    """The point with the least sum of distances to `points` `[n, d]` (Weiszfeld's algorithm)."""
    guess = points.mean(0)
    for _ in range(iterations):
        weights = 1 / (points - guess).norm(dim=1).clamp(min=1e-8)
        updated = (weights / weights.sum()) @ points
        if float((updated - guess).norm()) < tolerance * (1 + float(guess.norm())):
            break
        guess = updated
    return guess
