"""The environments' manual, made from their docstrings: ``python -m glimpse_envs.manual > docs/environments.md``."""

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

Made from the docstrings by `python -m glimpse_envs.manual > docs/environments.md`; a test holds the two together.

```python
import gymnasium

env = gymnasium.make("glimpse_envs:Glimpse/Digits-v0")
observation, info = env.reset(seed=0)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

envs = gymnasium.make_vec("glimpse_envs:Glimpse/Digits-v0", num_envs=64)
```

`pip install 'glimpse-attention[envs]'` brings what they need. Beside them:

- `glimpse_envs.classification.tensor.TensorEnv`: the same with tensors in and out, on any device, for trainers.
- `glimpse_envs.evaluation.evaluate`: how good an agent is, every image of a split once.
- `glimpse_envs.sb3.GlimpseVecEnv`: the vector environment as Stable-Baselines3's `VecEnv`.
- `glimpse_envs.classification.scenes.Pictures`: images and labels of your own, for the argument `dataset`.
- `glimpse_envs.checker.check_vector_env`: is a vector environment what so many single ones would be?
- [Examples](../envs/examples) of agents of Stable-Baselines3, sb3-contrib, TorchRL, and in CleanRL's style.

Images that never change are filtered beforehand, which takes memory, up to 1 GiB, and time, some seconds for 10,000
images of 60x60; environments of one process share it."""


def manual() -> str:
    """The manual, in Markdown."""
    rows = [f"| `{NAMESPACE}/{entry.id}` | {entry.summary} | {_listed(entry.options)} |" for entry in (*ENTRIES, MAZE)]
    ids = "\n".join(["| id | what it shows | arguments, unless others are given |", "| --- | --- | --- |", *rows])
    return "\n\n".join(
        [
            HEAD,
            ids,
            _section("GlimpseEnv", GlimpseEnv),
            f"### The arguments in detail\n\n{_arguments()}",
            _section("GlimpseVectorEnv", GlimpseVectorEnv),
            _section("TensorEnv", TensorEnv),
            _section("Glimpse/Maze-v0", MazeEnv),
            "",
        ]
    )


def _section(title: str, kind: type) -> str:
    """A class's docstring, one level of headings further down."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return f"## {title}\n\n{re.sub('^##', '###', _in_markdown(text), flags=re.MULTILINE)}"


def _arguments() -> str:
    """The attributes of a task as a list."""
    body = inspect.cleandoc(Task.__doc__ or "").partition("Attributes:\n")[2].partition("\nRaises:")[0]
    return _in_markdown(body).strip()


def _in_markdown(text: str) -> str:
    """Docstring markup as Markdown: code in single backticks, sections of arguments as lists."""
    text = re.sub(r"(?<!`)``(?!`)", "`", re.sub(r":\w+:`[\w.]*?(\w+)`", r"`\1`", text))
    text = re.sub(r"^(Args|Raises):$", r"**\1**\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"\n {6,}", "\n  ", text)


def _listed(options: dict[str, object]) -> str:
    return ", ".join(f"`{name}={value!r}`" for name, value in options.items())


if __name__ == "__main__":
    sys.stdout.write(manual())
