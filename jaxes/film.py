"""Films: frames and how fast they follow, written as MP4 (H.264, which browsers play) or GIF."""

import io
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxes.checks import check, check_name
from jaxes.files import write_whole

EVEN = "crop=trunc(iw/2)*2:trunc(ih/2)*2"  # what yuv420p needs: an odd last row or column is cut


class Film(NamedTuple):
    """An episode, or a game, to be looked at.

    Attributes:
      frames: uint8 `[T, H, W, 3]`.
      fps: frames a second.
      episode_return: the sum of rewards of what is shown; of a game of Tetris its lines.
      length: the steps of what is shown; of a game its pieces.
    """

    frames: np.ndarray
    fps: float
    episode_return: float
    length: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.frames) / self.fps


def save(film: Film, path: str | os.PathLike) -> None:
    """Writes a film as what the name of the file ends in: `.mp4` or `.gif`.

    Raises:
      ValueError: the name ends in something else, the file is there already or cannot be written,
        or the encoder of MP4 is not installed.

    Example:
      >>> save(film_of("runs/hopper"), "hopper.gif")
    """
    path = Path(path)
    check_output("path", path)
    write_whole(path, encoded(film, path.suffix[1:]))


def check_output(field: str, path: Path) -> None:
    """Raises a ValueError unless a film can be written there: to be asked before there is one."""
    what = str(path)
    allowed = " or ".join(f".{kind}" for kind in ENCODERS)
    check(field, what, path.suffix[1:] in ENCODERS, f"a file that ends in {allowed}")
    check(field, what, path.parent.is_dir(), "in a folder that is there")
    check(field, what, not path.exists(), "a file that is not there yet")
    check(field, what, os.access(path.parent, os.W_OK), "in a folder that is writable")
    if path.suffix == ".mp4":
        _ffmpeg()


def encoded(film: Film, kind: str) -> bytes:
    """The content of a film's file.

    Args:
      kind: `mp4` or `gif`.

    Raises:
      ValueError: another kind, no frame, or the encoder of MP4 is not installed or fails.
    """
    check_name("kind", kind, ENCODERS)
    check("film", len(film.frames), len(film.frames) > 0, "of at least one frame")
    return ENCODERS[kind](film)


def _mp4(film: Film) -> bytes:
    height, width = film.frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(film.fps)]
    web = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-vf", EVEN, "-movflags", "+faststart"]
    frames = np.ascontiguousarray(film.frames).data.cast("B")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")  # a player finds its way only in one that was no pipe
        command = [_ffmpeg(), "-v", "error", *raw, "-i", "-", *web, str(path)]
        done = subprocess.run(command, input=frames, capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
            raise ValueError(f"film: ffmpeg fails: {said[-1]}")
        return path.read_bytes()


def _ffmpeg() -> str:
    """The program that encodes MP4.

    Raises:
      ValueError: it is not there.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            "film: .mp4 needs an encoder: pip install imageio-ffmpeg, or write a .gif"
        ) from error


def _gif(film: Film) -> bytes:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in film.frames]
    # Hundredths of a second, as GIF has them: each ends where it should, so that no error adds up.
    ends = np.rint(np.arange(len(images) + 1) * 100 / film.fps).astype(int)
    durations = (10 * np.diff(ends)).tolist()  # ms
    content = io.BytesIO()
    images[0].save(
        content, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
    )
    return content.getvalue()


ENCODERS = {"mp4": _mp4, "gif": _gif}
