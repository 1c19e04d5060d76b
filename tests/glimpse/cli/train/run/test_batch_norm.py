from collections.abc import Callable

import torch
from torch import nn

from glimpse.cli.train.run.batch_norm import SharedBatchNorm2d, share_batch_norms

TWO = """
import os, sys, tempfile
import torch
from torch import distributed, nn
from glimpse.cli.train.run.batch_norm import share_batch_norms
from glimpse.data.share import mean_over_processes, share_of_this_process

torch.manual_seed(0)
images, wanted = torch.randn(8, 3, 5, 4) * 3 + 2, torch.randn(8, 4, 5, 4)
model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
nn.init.normal_(model[1].weight)

def step(model, images, wanted):
    model.zero_grad()
    (model(images) * wanted).mean().backward()
    return [weight.grad for weight in model.parameters()]

whole = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
whole.load_state_dict(model.state_dict())
meeting = tempfile.mktemp()
rank = int(os.fork() == 0)
expected = step(whole, images, wanted)  # torch's autograd can't be forked once it has run
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
share = share_of_this_process()
share_batch_norms(model, shared=True)
found = step(model, share.take(images), share.take(wanted))
for one, other in zip(expected, found):
    torch.testing.assert_close(mean_over_processes(other), one, atol=1e-6, rtol=1e-4)
for one, other in zip(whole.buffers(), model.buffers()):
    torch.testing.assert_close(other, one)
share_batch_norms(model, shared=False)
assert type(model[1]) is nn.BatchNorm2d
if rank:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print("equal")
"""


def test_two_processes_normalise_by_the_whole_batch(without_hook: Callable[..., str]):
    assert without_hook(TWO, GLOO_SOCKET_IFNAME="lo") == "equal\n"


def test_a_process_that_is_alone_normalises_as_ever():
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    model = nn.BatchNorm2d(3)
    other = share_batch_norms(nn.Sequential(nn.BatchNorm2d(3)), shared=True)
    assert isinstance(other[0], SharedBatchNorm2d)  # type: ignore[index]
    torch.testing.assert_close(other(images), model(images))
