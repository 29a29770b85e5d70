"""Reads and writes at named sites of an unmodified model: the one intervention mechanism.

Tracing, patching, ablation and steering are all made of these two operations. Where a site is in
each architecture is interp-engine's knowledge (`EagerModel.resolve_point`); its `HookManager` holds
the hooks. What is added here is that a *write* at `resid_mid` reaches the residual stream itself, and
that what a module puts out can be supplied where it is known, and need not be computed.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from interp_engine import Address, HookManager
from interp_engine.address import AddressError, parse_address
from interp_engine.hooks import replace_hidden
from pydantic import AfterValidator, Field

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from interp_engine.model import EagerModel

    Read = Callable[[torch.Tensor], None]
    Write = Callable[[torch.Tensor], torch.Tensor]
    Wrap = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


Key = TypeVar("Key")

_EMPTY: WeakKeyDictionary[torch.nn.Module, object] = WeakKeyDictionary()
"""What modules return, emptied: a tuple of None, or None where they return a tensor alone."""


def site(text: str | Address) -> Address:
    """An address from its text form, such as `resid_post.12` or `z.3`.

    Raises:
        InterpretOpsError: When the text is not an address.
    """
    if isinstance(text, Address):
        return text
    try:
        return parse_address(text)
    except AddressError as error:
        raise InterpretOpsError(
            f"{text!r} is not a site ({error})",
            fix="write a site as NAME.LAYER, e.g. resid_post.12",
        ) from error


def _named_once(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(str(site(name)) for name in names))
    except InterpretOpsError as error:
        raise ValueError(str(error)) from error  # what pydantic takes for a wrong value


SiteNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_named_once)]
"""Sites in a spec, by their names: at least one, each of them an address, none twice."""


class SiteHooks:
    """A set of reads and writes, in force inside its `with` block and gone without trace after it.

    Functions at one site run in the order in which they were added, each seeing what the one before
    it wrote. Sets nest. Tensors are `[batch, seq, width]`; `z` is `n_heads * head_dim` wide.
    """

    def __init__(self, engine: EagerModel) -> None:
        self._engine = engine
        self._manager = HookManager()
        self._supplied = ExitStack()

    def read(self, where: str | Address, observe: Read) -> None:
        """Call `observe` with the tensor at a site on every forward.

        Raises:
            InterpretOpsError: When this model has no such site.
        """
        module, side = self._resolve(site(where))
        self._manager.read(module, observe, point=side)

    def keep(self, where: str | Address, into: dict[Key, torch.Tensor], key: Key) -> None:
        """Put the tensor at a site into a dictionary on every forward.

        Raises:
            InterpretOpsError: When this model has no such site.
        """
        self.read(where, partial(into.__setitem__, key))

    def write(self, where: str | Address, change: Write) -> None:
        """Replace the tensor at a site by `change(tensor)` on every forward.

        Raises:
            InterpretOpsError: When this model has no such site.
        """
        address = site(where)
        if address.name == "resid_mid":
            self._write_resid_mid(address, change)
            return
        module, side = self._resolve(address)
        self._manager.write(module, change, point=side)

    def wrap(self, path: str, change: Wrap) -> None:
        """Replace what the module at a dotted path returns by `change(its input, its output)`.

        Raises:
            InterpretOpsError: When this model has no such module.
        """
        try:
            module = self._engine.get_submodule(path)
        except (AttributeError, ValueError, KeyError) as error:
            raise InterpretOpsError(
                f"{self._engine.arch.architecture} has no module {path}",
                fix="use an adapter that was trained for this model",
            ) from error
        entering: list[torch.Tensor] = []

        def remember(x: torch.Tensor) -> None:
            entering[:] = [x]

        self._manager.read(module, remember, point="input")
        self._manager.write(module, lambda y: change(entering[0], y), point="output")

    def resume(self, layer: int, residual: torch.Tensor) -> None:
        """Begin every forward at the end of a layer, where the residual stream is known.

        No layer up to that one is run. Reads and writes at `resid_post` of that layer and further on act
        as ever.

        Args:
            layer: The layer.
            residual: The stream at its `resid_post`, `[batch, seq, d_model]`.
        """
        for i in range(layer + 1):
            self.supply(Address("resid_post", i), residual)

    def supply(self, where: str | Address, value: torch.Tensor) -> None:
        """Put a known value at a site on every forward; the module that puts it out is not run.

        Reads and writes at the site act on the value. Sites within the module hold nothing of meaning,
        and a cache gets none of its keys and values.

        Args:
            where: The output of a module, such as `resid_post` or `mlp_out`.
            value: `[batch, seq, width]`.

        Raises:
            InterpretOpsError: When this model has no such site.
        """
        module, side = self._resolve(site(where))
        assert side == "output"
        run, own = module.forward, vars(module).get("forward")

        def put_out(*args: Any, **kwargs: Any) -> object:
            if module not in _EMPTY:  # architectures differ in this, so the first time it runs
                with torch.no_grad():
                    output = run(*args, **kwargs)
                _EMPTY[module] = (None,) * len(output) if isinstance(output, tuple) else None
            return replace_hidden(_EMPTY[module], value)

        def restore() -> None:
            if own is None:
                del module.forward
            else:  # set by a loader that spreads a model over devices, or by another supply
                module.forward = own

        module.forward = put_out
        self._supplied.callback(restore)

    def _write_resid_mid(self, address: Address, change: Write) -> None:
        # `resid_mid` is formed by an addition inside the block, not by a module, and the block adds
        # the same sum again after the MLP; replacing the norm's input alone would miss that path.
        # So the change is carried by the attention's contribution to the sum.
        self._resolve(address)
        entering: list[torch.Tensor] = []

        def remember(resid_pre: torch.Tensor) -> None:
            entering[:] = [resid_pre]

        def shift(contribution: torch.Tensor) -> torch.Tensor:
            return change(entering[0] + contribution) - entering[0]

        self.read(Address("resid_pre", address.layer), remember)
        self.write(Address("attn_out_post", address.layer), shift)

    def _resolve(self, address: Address) -> tuple[torch.nn.Module, str]:
        try:
            module, side = self._engine.resolve_point(
                address.name, address.layer, stream=address.stream
            )
        except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
            raise InterpretOpsError(
                f"{self._engine.arch.architecture} has no site {address} ({error})",
                fix=f"choose a layer from 0 to {self._engine.n_layers - 1} and a site it has, "
                "such as resid_post, z, attn_out or mlp_out",
            ) from error
        return module, side

    def __enter__(self) -> SiteHooks:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.remove_all()
        self._supplied.close()
