"""Keepline's own files, which nobody may deliver, neither as they are called nor under another name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from keepline.settings import Settings


def own_folders(settings: Settings) -> list[Path]:
    """Return the folders that hold keys and passwords."""
    return [settings.home / "secrets", Path("/run/secrets")]


def is_own_file(path: Path, own: Iterable[Path]) -> bool:
    """Whether a file is one of keepline's own, also by a link to it, a hard one too.

    Args:
        path: the file.
        own: folders that hold keepline's own files.
    """
    if not path.is_file():
        return False
    folders = [folder for folder in own if folder.is_dir()]
    if any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
        return True
    if path.stat().st_nlink == 1:
        return False
    files = (file for folder in folders for file in folder.iterdir())
    return any(path.samefile(file) for file in files if file.is_file())
