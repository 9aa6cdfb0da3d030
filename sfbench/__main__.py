"""``python -m sfbench`` is ``sfbench``."""

from .cli import main

main()
