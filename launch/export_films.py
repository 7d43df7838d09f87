"""Hand a study's films out: `python launch/export_films.py --workdir=RUN --out=DIR`.

RUN is the workdir of a finished configs/ddpm_cam.py run. Writes its treated films as they were before treatment:
`films.npz` (key, image, disease, cam: the map's region) and `masks.npz` (each arm's), and `films/KEY.png`, 16 bit gray.
Treat them by any code, write STRENGTH/KEY.png or STRENGTH.npz (key, image) into a folder, and run the study again with
--config.study.foreign.NAME=FOLDER.
Exit codes: 0 done; 2 a mistake that the message says how to mend.
"""

from __future__ import annotations

import sys
from pathlib import Path

from checks import Parser, UsageError
from main import fail

HANDED = ("key", "image", "disease", "cam")


def main(argv: list[str]) -> int:
    """Runs the command line `argv`, the program's name first; returns the exit code."""
    try:
        parser = Parser("export_films", __doc__)
        parser.add_workdir("a finished run that treats films")
        parser.add_out()
        flags = parser.parse_args(argv[1:])
        out, folder = flags.out, Path(flags.workdir) / "progress"
        for name in ("films.npz", "masks.npz"):
            if not (folder / name).is_file():
                raise UsageError(f"--workdir={flags.workdir} has no progress/{name}: give a finished run that treats "
                                 "films, such as one of configs/ddpm_cam.py")  # fmt: skip
    except UsageError as error:
        return fail(error)

    import numpy as np
    from PIL import Image

    from cxrjax import files
    from cxrjax.errors import UserError

    try:
        films, masks = files.read_arrays(folder / "films.npz"), files.read_arrays(folder / "masks.npz")
        if lacking := [name for name in HANDED if name not in films]:
            raise UserError(f"{folder / 'films.npz'} has no {', '.join(lacking)}; give a run that a study of this "
                            "version finished")  # fmt: skip
        files.write_arrays(out / "films.npz", **{name: films[name] for name in HANDED})
        files.write_arrays(out / "masks.npz", key=films["key"], **masks)
    except UserError as error:
        return fail(error)
    for key, image in zip(films["key"], films["image"], strict=True):
        path = out / "films" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image * 65535).astype(np.uint16)).save(path)
    print(f"{len(films['key'])} films of {flags.workdir} in {out}; keep their keys and their size")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
