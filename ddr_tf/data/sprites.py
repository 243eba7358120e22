"""Sprites: the paper's data, characters of the Universal LPC Spritesheet collection in all 178 poses of a sheet.

The sheets are the work of many artists, under CC-BY-SA 3.0 and GPL 3.0; see the AUTHORS.txt of the collection.
"""

import contextlib
import io
import socket
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from ddr_tf.config import configurable
from ddr_tf.data.characters import Characters
from ddr_tf.errors import UserError
from ddr_tf.files import local_path, replaced
from ddr_tf.images import opened

# A copy of the paper's collection, at one commit.
SHEETS_URL = (
    "https://raw.githubusercontent.com/makrohn/Universal-LPC-spritesheet/7040e2fe85d2cb1e8154ec5fce382589d369bdb8"
)

# In painting order; path under `<data_dir>/lpc/` and SHA-256 of each sheet.
SHEETS = {
    "body": (
        ("body/male/light.png", "27d1ac78db37c42f35a20d15c42705efc5e58d47c236cc01423879d4f797f151"),
        ("body/male/tanned2.png", "1535e9228357b884df80f777a0d1dac10ac35e550e4d8d077105ccad014a1460"),
        ("body/male/darkelf.png", "7c241033b4897501cb3721b6c3a9ebfa94b13db10a539edbd9bcc3e0c2a4bcb9"),
        ("body/male/darkelf2.png", "055f5aa33fc112d8444b42fce2cf50608a9fbbf2466c54ceaa46c777589a717a"),
        ("body/male/dark.png", "57f3b9c510482379aba9a32fc0de7d48e9cbe3dc40f2447283547f773b77ca72"),
        ("body/male/dark2.png", "91e49453aeab5ebbb4fd2b48253812895dcfb4cb1829b84e24425c66de8f04ff"),
    ),
    "legs": (
        ("legs/pants/male/white_pants_male.png", "4ec356c488e272fde2d2d0d722b12a80217871e41161d43ba784caf243969ec2"),
        ("legs/pants/male/red_pants_male.png", "3b464feb0d20ff34b0ca2a6d1fd00766ad86e2229c3d56ff91379fe27588a893"),
        ("legs/pants/male/teal_pants_male.png", "4ed7e7702e4f50b9692c0043be04b7296a108d85ea97230fb50d13c150d98771"),
        ("legs/armor/male/golden_greaves_male.png", "0674312eaa4ab548f8bb31ef95d7dbd46b41555758cec51bd6c3e9fac9a0f936"),
        ("legs/armor/male/metal_pants_male.png", "b366e84ea0519d06cf693f51e0ee2f9ac32b3132d27c75dfdc4b6f52fca072de"),
        ("legs/skirt/male/robe_skirt_male.png", "a50af1e08421c4fcc4b6365c75c81c8b328f0d4a7bf93b5a1cb97d45e3b72bde"),
    ),
    "torso": (
        (
            "torso/shirts/longsleeve/male/maroon_longsleeve.png",
            "b917edcf2b3c35d51ef57a6fad67557c5edf048785bea29db09a640d09ac9a90",
        ),
        (
            "torso/shirts/longsleeve/male/teal_longsleeve.png",
            "e33c6cb31ed1268a2c0dc73b665b1c9b9420e22baf3321880222bdb22682368b",
        ),
        (
            "torso/shirts/longsleeve/male/white_longsleeve.png",
            "2b9b8fefa08894b7ea536cd62b86d494aefe6e54495c5c1d83460827b13b6448",
        ),
        ("torso/plate/chest_male.png", "807f5b628592f6747e2814be9435963069dba6c360577168c02f57bbe903433d"),
        ("torso/leather/chest_male.png", "b51b17878503877e179ce4f9231713bf2b2d2d666c3ec9ee29f4e784469867a2"),
        ("torso/gold/chest_male.png", "ec560cad6963e0864b38d8760a20bac2bdad9e648fe9d5d8a291f0ffb054674d"),
    ),
    "hair": (
        ("hair/male/messy2/green2.png", "e4007b0635a239ad16cdebfe90759349ccc73dfc6836c9d19625714be185f43d"),
        ("hair/male/longknot/blue2.png", "fa6369f84d3310705df6d8ca8c9d515a7d211e73d2826c50a9cb5bb285652c66"),
        ("hair/male/messy1/light-blonde.png", "1b8046752be7233e829ebe9b11048e171d8d181ee6f68e07042b34f57bb8af0d"),
        ("hair/male/bangs/white.png", "333783285c5fd94ff434ae5000d2da39aac7940269f173119eaa70d34c8acfa1"),
        ("hair/male/plain/ruby-red.png", "24df8e9b291cbd444f6c4d12d35b3d43d909cd13f04e6401e0fd8ab10216d5a2"),
        ("hair/male/jewfro/purple.png", "4dd471cc20e0b1cf71adcaab01c88598767e5cfe680adacdf560ca91574f17ae"),
    ),
}

SIDE = 64  # pixels of a frame
SHEET_SIZE = (832, 1344)  # pixels, width and height: 13 x 21 frames
# Action, directions, steps: one row of the sheet a direction, one column a step.
ACTIONS = (("spellcast", 4, 7), ("thrust", 4, 8), ("walk", 4, 9), ("slash", 4, 6), ("shoot", 4, 13), ("hurt", 1, 6))
DIRECTIONS = ("up", "left", "down", "right")
DOWNLOAD_TIMEOUT = 30  # seconds to wait for an answer


def poses() -> dict[str, np.ndarray]:
    """Labels of the 178 poses, row by row down the sheet.

    Returns:
      `row`, `step` (column), `action` and `direction` (indices into `ACTIONS` and `DIRECTIONS`), each int32 `[178]`.
    """
    table = []
    for action, (name, directions, steps) in enumerate(ACTIONS):
        for direction in range(directions):
            row = table[-1][0] + 1 if table else 0
            facing = DIRECTIONS.index("down") if name == "hurt" else direction
            table += [(row, step, action, facing) for step in range(steps)]
    return dict(zip(("row", "step", "action", "direction"), np.array(table, np.int32).T, strict=True))


def name_of_sheet(path: Path) -> str:
    """A short name: that of the file, or of its folder where three are alike."""
    return (path.parent.name if path.stem == "chest_male" else path.stem).removesuffix("_male")


def download_sheets(folder: Path, url: str = SHEETS_URL) -> None:
    """Downloads the sheets that are missing under `folder`, checks each, and moves it into place when it is whole.

    Args:
      folder: `<data_dir>/lpc`.
      url: Where the collection's root is.

    Raises:
      UserError: If the network or the folder is not usable, or a file is not the expected one.
    """
    missing = [sheet for sheets in SHEETS.values() for sheet in sheets if not (folder / sheet[0]).exists()]
    for path, sha256 in tqdm(missing, desc="downloading LPC sheets", unit="sheet", disable=not missing):
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with replaced(folder / path) as partial:
                _download(f"{url}/{path}", sha256, partial)
        except ConnectionError as error:
            raise UserError(
                f"The LPC sheet {path} is not in {folder} and could not be downloaded from {url} ({error}); put the "
                f"{len(missing)} missing sheets there, or name the folder that holds lpc/ with --data_dir."
            ) from error
        except OSError as error:
            raise UserError(f"The LPC sheet {path} could not be written to {folder}: {error}.") from error


def _download(url: str, sha256: str, target: Path) -> None:
    """Downloads one file with Keras, which writes it in place and tells of each on the standard output.

    Raises:
      UserError: If it has another checksum.
      ConnectionError: If it cannot be had.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # Keras sets no timeout and would wait for ever
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            keras.utils.get_file(target.name, url, file_hash=sha256, cache_subdir=target.parent.resolve())
    except ValueError as error:
        raise UserError(f"{url} is not the expected sheet (its SHA-256 differs); it was not kept.") from error
    except Exception as error:  # Keras raises a bare Exception
        raise ConnectionError(error) from error
    finally:
        socket.setdefaulttimeout(timeout)


def read_sheet(path: Path) -> np.ndarray:
    """The 178 frames of one sheet.

    Args:
      path: PNG of 832 x 1344 pixels.

    Returns:
      uint8 `[178, 64, 64, 4]`, RGBA.

    Raises:
      UserError: If the file cannot be read or has another size.
    """
    try:
        with opened(path) as (_, image):
            size = image.size
            pixels = np.array(image.convert("RGBA")) if size == SHEET_SIZE else None
    except ValueError as error:
        raise UserError(f"The LPC sheet {path} cannot be read ({error}); delete it to download it again.") from error
    if pixels is None:
        raise UserError(f"The LPC sheet {path} is {size[0]} x {size[1]} pixels, not {SHEET_SIZE[0]} x {SHEET_SIZE[1]}.")
    grid = pixels.reshape(SHEET_SIZE[1] // SIDE, SIDE, SHEET_SIZE[0] // SIDE, SIDE, 4).swapaxes(1, 2)
    labels = poses()
    return grid[labels["row"], labels["step"]]


@configurable()
class Sprites(Characters):
    """1,296 characters x 178 poses, 64 x 64 x 3 (the paper, Appendix A).

    `static_labels`: body, legs, torso, hair; `frame_labels`: action, direction (index into `DIRECTIONS`), step.
    """

    PATHS = ("data_dir",)
    licence = "CC-BY-SA 3.0 and GPL 3.0, the work of many artists: AUTHORS.txt of the Universal LPC collection"
    open_licence = True

    def __init__(self, data_dir: str) -> None:
        """Reads the 24 sheets, downloading those that are missing, and composites the lower two layers.

        Takes 2 s and 300 MB of memory.

        Args:
          data_dir: Folder that holds `lpc/`.

        Raises:
          UserError: If a sheet is missing and cannot be downloaded, is damaged, or has another size.
        """
        folder = local_path(data_dir) / "lpc"
        download_sheets(folder)
        layers = np.array([[read_sheet(folder / path) for path, _ in sheets] for sheets in SHEETS.values()])
        labels = poses()
        super().__init__(
            "sprites",
            tuple(SHEETS),
            layers,
            {name: labels[name] for name in ("action", "direction", "step")},
            label_names={
                **{name: [name_of_sheet(Path(path)) for path, _ in sheets] for name, sheets in SHEETS.items()},
                "action": [name for name, _, _ in ACTIONS],
                "direction": DIRECTIONS,
            },
        )

    @staticmethod
    def frame_shape_of(**settings: Any) -> tuple[int, int, int]:
        """See `SequenceDataset.frame_shape_of`."""
        del settings
        return SIDE, SIDE, 3

    def render(self, identity: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """True frames.

        Args:
          identity: int `[...]`, 0..1295.
          pose: int `[...]`, 0..177.

        Returns:
          uint8 `[..., 64, 64, 3]`.
        """
        return self.swap_truth(identity, identity, pose)
