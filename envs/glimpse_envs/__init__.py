"""Gymnasium environments for visual attention. Importing the package registers them; torch is imported on first use."""

from glimpse_envs.registration import register

register()
