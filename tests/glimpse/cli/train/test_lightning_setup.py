import logging
import subprocess
import sys
import warnings

import pytest

from glimpse.cli.train.lightning_setup import QUIET_LOGS, quiet, without_hardware_messages


def test_what_helps_nobody_is_left_out_and_the_rest_is_not(caplog):
    name, texts = next(iter(QUIET_LOGS.items()))
    logger = logging.getLogger(name)
    with caplog.at_level(logging.INFO, logger=name), quiet():
        logger.info("... %s ...", texts[0])
        logger.info("the disk is nearly full")
    assert [record.getMessage() for record in caplog.records] == ["the disk is nearly full"]


def test_afterwards_everything_is_said_again(caplog):
    name, texts = next(iter(QUIET_LOGS.items()))
    with pytest.raises(RuntimeError, match="on the way"), quiet():
        raise RuntimeError("on the way")
    with caplog.at_level(logging.INFO, logger=name):
        logging.getLogger(name).info(texts[0])
    assert len(caplog.records) == 1


def test_the_hardware_is_told_of_once(caplog):
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger=logger.name):
        with without_hardware_messages():
            logger.info("GPU available: False")
            logger.warning("the disk is nearly full")
        logger.info("GPU available: True")
    assert [record.getMessage() for record in caplog.records] == ["the disk is nearly full", "GPU available: True"]


def test_warnings_of_ours_still_come():
    with quiet(), pytest.warns(UserWarning, match="look here"):
        warnings.warn("look here", UserWarning, stacklevel=1)
    with warnings.catch_warnings(record=True) as caught, quiet():
        warnings.simplefilter("always", append=True)
        warnings.warn("the loader does not have many workers", UserWarning, stacklevel=1)
    assert caught == []


@pytest.mark.child
@pytest.mark.slow
def test_metrics_are_imported_without_what_nobody_uses_and_that_can_be_imported_afterwards():
    program = (
        "import sys; from glimpse.cli.train.lightning_setup import UNUSED, import_metrics_lightly;"
        "import_metrics_lightly(); import pytorch_lightning, torchmetrics;"
        "print([name for name in UNUSED if name in sys.modules]);"
        "import matplotlib, scipy.signal, torchvision;"
        "print(matplotlib.__name__, scipy.signal.__name__, torchvision.__name__);"
        "import_metrics_lightly(); print(all(sys.modules[name] for name in UNUSED))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "matplotlib scipy.signal torchvision", "True"]
