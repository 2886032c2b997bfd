"""Working beside a program: whatever modes it has on, the doctor's own reading is plain."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._python_dispatch import _disable_current_modes


def plain() -> bool:
    """Return whether the program has no mode switched on that would act on the doctor's work."""
    return (
        torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_function_stack() == 0
        and torch._C._len_torch_dispatch_stack() == 0
    )


@contextmanager
def aside() -> Iterator[None]:
    """Leave the program's modes for a while: `torch.func`, a default device, a counter.

    Whether gradients and autocast are on stays as it is: the doctor asks for it.
    """
    with ExitStack() as stack:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            stack.enter_context(temporarily_clear_interpreter_stack())
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes())
        if torch._C._len_torch_function_stack():
            stack.enter_context(torch._C.DisableTorchFunction())
        yield
