import shutil
from pathlib import Path

from glimpse.cli.compare.training import images_seen, times_of
from glimpse.training.checkpoint import read_checkpoint


def test_weights_alone_do_not_say_how_long_they_were_trained(started):
    checkpoint = read_checkpoint("out/runs/hard/last.ckpt")
    assert images_seen(checkpoint, 1000) == 2 * 64
    assert images_seen(checkpoint, 40) == 2 * 40
    del checkpoint["loops"]
    assert images_seen(checkpoint, 1000) is None


def test_times_are_of_this_checkpoint_alone(started):
    last = Path("out/runs/hard/last.ckpt")
    assert times_of(last).cpu is not None
    shutil.copy("out/runs/plain/last.ckpt", last)
    assert times_of(last).cpu is None
    shutil.copy(last, "alone.ckpt")
    assert times_of(Path("alone.ckpt")) == (None, None)
