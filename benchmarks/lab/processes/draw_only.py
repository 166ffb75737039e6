"""The model's own time: n images drawn as gan-gen draws them, and thrown away.

    python draw_only.py g.onnx 10000

`lab.end_to_end` measures it as it stands, in a fresh interpreter.
"""

import sys

from gan_serve.runtime import runtimes


def main(model: str, n: int) -> None:
    """Draws seeds 0 … n - 1 with gan-gen's own settings."""
    drawn = sum(len(pixels_NHWC) for pixels_NHWC in runtimes.load(model, many=True).stream(range(n)))
    assert drawn == n


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
