"""Task sets: many tasks of one kind, split by task. To add one: a file here and a line below."""

from metagen.core.registry import Registry
from metagen.tasks.avatars import Avatars
from metagen.tasks.base import TaskSet
from metagen.tasks.celeba import CelebA
from metagen.tasks.folder import Folder
from metagen.tasks.glyphs import Glyphs
from metagen.tasks.omniglot import Omniglot

task_sets: Registry[TaskSet] = Registry(
    "task set", avatars=Avatars, celeba=CelebA, folder=Folder, glyphs=Glyphs, omniglot=Omniglot
)

__all__ = ["Avatars", "CelebA", "Folder", "Glyphs", "Omniglot", "TaskSet", "task_sets"]
