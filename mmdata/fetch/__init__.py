"""Bytes behind links: politely, safely, with a reason for each that could not be had."""
