"""The tiny models and the thread of the trainer's tests."""

from tests.train.conftest import _one_thread, learned, tiny_path

__all__ = ["_one_thread", "learned", "tiny_path"]
