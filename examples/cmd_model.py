"""A video model as a program of its own: `sfbench run --model "cmd:python examples/cmd_model.py"`.

It needs numpy and nothing of sfbench: this file is the documentation of the protocol, and the same
few lines can be written in any language. Messages are JSON, one a line; frames are raw bytes, RGB,
8 bits, row by row. The "model" paints a gradient that moves one pixel a frame; its colour comes
from the prompt, its start from the seed, or from the last frame of the context it is given.
"""

import json
import sys
import zlib

import numpy as np

CHUNK = 4  # frames a step
CARD = {
    "name": "moving-gradient",
    "revision": "1",
    "causal": True,
    "chunk": CHUNK,
    "native_frames": 12,
    "accepts_context": True,
    "switches_prompt": True,
    "steps": 1,
    "dtype": "float32",
}

# Stdout carries the protocol, so a stray print() must not end up there: it goes to stderr.
channel, sys.stdout = sys.stdout.buffer, sys.stderr


def main():
    """Say what this is, then answer line by line until the harness closes our input."""
    say({"sfbench": 1, "card": CARD})
    clip = None
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "generate" in message:  # a new clip; nothing to answer yet
            clip = begin(message["generate"])
        elif "stop" in message:  # no more of this clip; nothing to answer
            clip = None
        elif "next" in message:  # one chunk, please
            if "prompt" in message:  # ... and from here on under another prompt
                clip["prompt"] = message["prompt"]
            answer(clip)


def begin(order):
    """Read the context, if any, and set up the state of a clip."""
    height, width = order["height"], order["width"]
    clip = {**order, "left": order["frames"], "done": order["context_frames"]}
    if order["context_frames"]:
        size = order["context_frames"] * height * width * 3
        context = np.frombuffer(sys.stdin.buffer.read(size), np.uint8)
        clip["last"] = context.reshape(-1, height, width, 3)[-1].astype(np.float32)
    else:
        clip["last"] = gradient(np.random.default_rng(order["seed"]), height, width)
    return clip


def answer(clip):
    """Make up to CHUNK frames of the clip and send them."""
    if clip["height"] * clip["width"] > 4096 * 4096:
        say({"error": f"{clip['height']}x{clip['width']} pixels are too many for a gradient."})
        return
    count = min(CHUNK, clip["left"])  # never more than is left

    # Spans are optional. They let the harness time the parts of a chunk on its own clock; the names
    # are text, denoise, cache and decode. On a GPU, synchronise before each line.
    say({"span": "denoise", "at": "begin"})
    frames = [step(clip) for _ in range(count)]
    say({"span": "denoise", "at": "end"})

    clip["left"] -= count
    say({"frames": count})
    channel.write(np.stack(frames).tobytes())  # count x height x width x 3 bytes
    channel.flush()


def step(clip):
    """The next frame: the last one moved by a pixel and tinted, plus noise of this very frame."""
    colour = np.array([zlib.crc32(clip["prompt"].encode()) >> shift & 255 for shift in (0, 8, 16)])
    moved = np.roll(clip["last"], 1, axis=1)
    clip["last"] = (0.98 * moved + 0.02 * colour).astype(np.float32)
    # Keyed by (seed, absolute frame): the noise of a frame does not depend on what came before.
    noise = np.random.default_rng([clip["seed"], clip["done"]]).normal(0, 1, clip["last"].shape)
    clip["done"] += 1
    return np.clip(np.round(clip["last"] + noise), 0, 255).astype(np.uint8)


def gradient(rng, height, width):
    """A smooth picture from one random colour to another, float32 [height, width, 3]."""
    left, right = rng.uniform(30, 225, (2, 3))
    across = np.linspace(0, 1, width)[None, :, None]
    return np.broadcast_to(left + across * (right - left), (height, width, 3)).astype(np.float32)


def say(message):
    """Send one line. Flush, or the harness waits for ever."""
    channel.write(json.dumps(message).encode() + b"\n")
    channel.flush()


if __name__ == "__main__":
    main()
