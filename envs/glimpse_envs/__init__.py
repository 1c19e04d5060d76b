"""Gymnasium environments for looking at images. Importing it makes their ids known; torch comes with the first use."""

from glimpse_envs.registration import register

register()
