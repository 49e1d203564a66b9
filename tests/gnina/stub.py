"""A stub of gnina that docks nothing: it honours the documented flags, and puts the ligand as it is into the middle of the box with
made-up numbers. For what the real program does not do at a chosen moment, and where it can't be had.

A ligand by the name of `silent` has it end well without an output, `empty` with an empty one, `untagged` without the tags of the
networks, `far` with the pose 100 Å away, `nan` with no number, and `refuse` with exit 1. It notes its arguments in the file `calls`
beside the program of its name, and then waits as long as there is a file `gate`.
"""

import json
import os
import sys
import time

import options


def moved(record, centre):
    """The first record of an SDF with its centroid at `centre`, up to `M  END`."""
    lines = record.splitlines()
    atoms = int(lines[3][:3])
    places = [[float(line[10 * axis : 10 * axis + 10]) for axis in range(3)] for line in lines[4 : 4 + atoms]]
    shift = [centre[axis] - sum(place[axis] for place in places) / atoms for axis in range(3)]
    for number, place in enumerate(places, 4):
        text = "".join(f"{place[axis] + shift[axis]:10.4f}" for axis in range(3))
        lines[number] = text + lines[number][30:]
    return "\n".join(lines[: lines.index("M  END") + 1])


def main():
    """Writes one pose."""
    folder = os.path.dirname(os.environ["GNINA_STUB"])
    given = options.parse(sys.argv[1:], "stub of gnina, docks nothing")
    with open(f"{folder}/calls", "a", encoding="utf-8") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    while os.path.exists(f"{folder}/gate"):
        time.sleep(0.02)
    with open(given.receptor, encoding="utf-8") as file:
        assert "ATOM" in file.read()
    with open(given.ligand, encoding="utf-8") as file:
        ligand = file.read()
    lie = ligand.splitlines()[0]
    if lie == "refuse":
        sys.exit("CUDA error: out of memory")
    centre = [getattr(given, f"center_{axis}") + (100 if lie == "far" else 0) for axis in "xyz"]
    affinity = "nan" if lie == "nan" else "-5.04999"
    tags = {"minimizedAffinity": affinity}
    if given.cnn_scoring != "none" and lie != "untagged":
        tags.update(CNNscore="0.8700000048", CNNaffinity="4.3269996643", CNN_VS="3.7644898891")
    rows = [(float(affinity), -0.11, 0.87, 4.327)]
    if lie != "silent":
        with open(given.out, "w", encoding="utf-8") as out:
            if lie != "empty":
                out.write(moved(ligand, centre) + "\n")
                out.write("".join(f"> <{name}>\n{value}\n\n" for name, value in tags.items()) + "$$$$\n")
    if given.log:
        with open(given.log, "w", encoding="utf-8") as log:
            log.write(options.table(rows))
    print(options.table([] if lie == "empty" else rows))


main()
