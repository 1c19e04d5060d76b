from pathlib import Path

import gymnasium

import glimpse_envs
from glimpse_envs.manual import manual
from glimpse_envs.registration import NAMESPACE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text(encoding="utf-8") == manual(), "python -m glimpse_envs.manual > docs/environments.md"


def test_every_id_and_every_section_of_gymnasiums_form_is_there():
    told = manual()
    assert glimpse_envs.__name__ in told
    ids = [name for name in gymnasium.registry if name.startswith(f"{NAMESPACE}/")]
    assert len(ids) >= 8
    assert [name for name in ids if name.endswith("-v0") and f"`{name}`" not in told and "Faulty" not in name] == []
    for section in ("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End"):
        assert told.count(f"\n### {section}\n") == 2
    assert "``" not in told.replace("```", "")
    assert ":class:" not in told
