"""The demo's image-text encoder: two towers from PyPI packages joined by a linear map kept in this folder."""
