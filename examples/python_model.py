"""The least that is a model: `cd examples && sfbench run --model python_model:Fade`."""

import numpy as np


class Fade:
    """One colour, a little darker with every chunk of four frames."""

    def __init__(self):
        """The card is optional, as is every field in it."""
        self.card = {"revision": "1", "chunk": 4, "native_frames": 12}

    def generate(self, request):
        """Yield uint8 [t, height, width, 3] arrays, as soon as they are there."""
        size, colour = request.geometry, np.random.default_rng(request.seed).uniform(60, 250, 3)
        for done in range(0, size.frames, 4):
            shape = (min(4, size.frames - done), size.height, size.width, 3)
            yield np.full(shape, colour * 0.99**done, np.uint8)
