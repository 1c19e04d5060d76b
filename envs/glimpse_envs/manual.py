"""Generate the manual from the docstrings: ``python -m glimpse_envs.manual > docs/environments.md``."""

import inspect
import re
import sys

from glimpse_envs.classification.single import GlimpseEnv
from glimpse_envs.classification.task import Task
from glimpse_envs.classification.tensor import TensorEnv
from glimpse_envs.classification.vector import GlimpseVectorEnv
from glimpse_envs.maze.env import MazeEnv
from glimpse_envs.registration import ENTRIES, MAZE, NAMESPACE

HEAD = """# Environments

Generated from the docstrings by `python -m glimpse_envs.manual > docs/environments.md`; a test compares the two.

```python
import gymnasium

env = gymnasium.make("glimpse_envs:Glimpse/Digits-v0")
observation, info = env.reset(seed=0)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

envs = gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64)
```

Install the requirements with `pip install 'glimpse-attention[envs]'`. The package also contains:

- `glimpse_envs.classification.TensorEnv`: the environment with tensors as actions and observations, on any device.
- `glimpse_envs.classification.Pictures`: your own images and labels, for the argument `dataset`.
- `glimpse_envs.evaluation.evaluate`: the evaluation of an agent on every image of a split.
- `glimpse_envs.sb3.GlimpseVecEnv`: the vector environment as a `VecEnv` of Stable-Baselines3.
- `glimpse_envs.checker.check_vector_env`: a check that a vector environment is equivalent to single environments.
- [Examples](../envs/examples) of training with Stable-Baselines3, sb3-contrib, TorchRL, and in the style of CleanRL.

The retina of fixed images (all splits without a canvas, and the validation and test splits with one) is computed in
advance. This takes up to 1 GiB of memory, and a few seconds for 10,000 images of 60x60 pixels. The environments of one
process share it."""


def manual() -> str:
    """The manual, in Markdown."""
    rows = [f"| `{NAMESPACE}/{entry.id}` | {entry.summary} | {_listed(entry.options)} |" for entry in (*ENTRIES, MAZE)]
    ids = "\n".join(["| id | description | default arguments |", "| --- | --- | --- |", *rows])
    return "\n\n".join(
        [
            HEAD,
            ids,
            _section("GlimpseEnv", GlimpseEnv),
            f"### Arguments of Task\n\n{_arguments()}",
            _section("GlimpseVectorEnv", GlimpseVectorEnv),
            _section("TensorEnv", TensorEnv),
            _section("Glimpse/Maze-v0", MazeEnv),
            "",
        ]
    )


def _section(title: str, kind: type) -> str:
    """The docstring of a class, with its headings one level lower."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return f"## {title}\n\n{re.sub('^##', '###', _in_markdown(text), flags=re.MULTILINE)}"


def _arguments() -> str:
    """The attributes of :class:`Task` as a list."""
    body = inspect.cleandoc(Task.__doc__ or "").partition("Attributes:\n")[2].partition("\nRaises:")[0]
    return _in_markdown(body).strip()


def _in_markdown(text: str) -> str:
    """Convert docstring markup to Markdown: code in single backticks, sections of arguments as lists."""
    text = re.sub(r"(?<!`)``(?!`)", "`", re.sub(r":\w+:`[\w.]*?(\w+)`", r"`\1`", text))
    text = re.sub(r"^Args:$", "Arguments:", text, flags=re.MULTILINE)
    text = re.sub(r"^(Arguments|Attributes|Raises):$", r"## \1", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"\n {6,}", "\n  ", text)


def _listed(options: dict[str, object]) -> str:
    return ", ".join(f"`{name}={value!r}`" for name, value in options.items())


if __name__ == "__main__":
    sys.stdout.write(manual())
