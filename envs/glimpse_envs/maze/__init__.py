"""An environment in which an agent looks into the corridors of a maze before it takes one."""

from glimpse_envs.maze.env import MazeEnv

__all__ = ["MazeEnv"]
