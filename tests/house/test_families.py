"""What an attention family consists of: a training class that is registered, and a recipe."""

import ast

import yaml

from tests.house.sources import REPOSITORY

TRAINING = REPOSITORY / "glimpse" / "training"
RECIPES = REPOSITORY / "glimpse" / "cli" / "train" / "configs"


def training_classes() -> dict[str, str]:
    """The name of each class of ``glimpse.training`` that sets ``kind``, with the kind."""
    found: dict[str, str] = {}
    for path in sorted(TRAINING.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in (each for each in module.body if isinstance(each, ast.ClassDef)):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "kind" and line.value is not None:
                    found[node.name] = ast.literal_eval(line.value)
    return found


def test_every_training_class_is_registered() -> None:
    registered = (TRAINING / "families" / "__init__.py").read_text(encoding="utf-8")
    missing = [name for name in training_classes() if f"        {name},\n" not in registered]
    assert missing == [], "add them to FAMILIES in glimpse/training/families/__init__.py"


def test_every_family_has_a_recipe() -> None:
    models = [yaml.safe_load(path.read_text(encoding="utf-8")).get("model", {}) for path in RECIPES.glob("*.yaml")]
    chosen = {model["class_path"] for model in models if "class_path" in model}
    missing = [f"digits-{kind}.yaml" for name, kind in training_classes().items() if name not in chosen]
    assert missing == [], f"write them in {RECIPES.relative_to(REPOSITORY)}"
