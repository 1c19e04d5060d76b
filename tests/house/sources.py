"""The files that the house rules are about."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (REPOSITORY, REPOSITORY / "envs", REPOSITORY / "serve")
TESTS = {"glimpse": "glimpse", "glimpse_envs": "envs", "glimpse_serve": "serve"}
"""The folder of tests of each product package."""
PACKAGES = tuple(source / name for source, name in zip(SOURCES, TESTS, strict=True))
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
"""Every module of the product, ``__init__.py`` included."""


def dotted(path: Path) -> str:
    """The import path of a module's file."""
    source = next(source for source in reversed(SOURCES) if path.is_relative_to(source))
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def relative(path: Path) -> str:
    """The path of a file inside the repository."""
    return path.relative_to(REPOSITORY).as_posix()


def mirrored(path: Path) -> Path:
    """Where the test of a module stands."""
    package = next(package for package in PACKAGES if path.is_relative_to(package))
    return REPOSITORY / "tests" / TESTS[package.name] / path.relative_to(package).parent / f"test_{path.stem}.py"


def python_files(*folders: str) -> list[Path]:
    """The Python files of folders of the repository, caches left out."""
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))
