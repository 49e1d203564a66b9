"""Gnina's documented command line, as far as a driver can use it, for the two stand-ins beside this file.

The names, defaults and choices are those of `gnina --help` (1.3). An option that gnina does not have is refused, as gnina
refuses it, so that a plan with a wrong flag fails here, too.
"""

import argparse

CNN_SCORING = ("none", "rescore", "refinement", "metrorescore", "metrorefine", "all")


def parse(arguments, version):
    """The options of a call; prints the version and leaves if that is all that is asked for."""
    parser = argparse.ArgumentParser(prog="gnina", allow_abbrev=False)
    parser.add_argument("-r", "--receptor", required=True)
    parser.add_argument("-l", "--ligand", required=True)
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--log")
    parser.add_argument("--autobox_ligand")
    parser.add_argument("--autobox_add", type=float, default=4)
    for axis in "xyz":
        parser.add_argument(f"--center_{axis}", type=float)
        parser.add_argument(f"--size_{axis}", type=float)
    parser.add_argument("--exhaustiveness", type=int, default=8)
    parser.add_argument("--num_modes", type=int, default=9)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--no_gpu", action="store_true")
    parser.add_argument("--cnn_scoring", choices=CNN_SCORING, default="rescore")
    parser.add_argument("--version", action="version", version=version)
    return parser.parse_args(arguments)


def table(rows):
    """Gnina's table of poses: affinity, intramolecular energy, CNN score and CNN affinity."""
    lines = [
        "mode |  affinity  |  intramol  |    CNN     |   CNN",
        "     | (kcal/mol) | (kcal/mol) | pose score | affinity",
        "-----+------------+------------+------------+----------",
    ]
    lines += [f"{rank:5d}{a:12.2f}{i:12.2f}{s:13.4f}{k:11.3f}" for rank, (a, i, s, k) in enumerate(rows, 1)]
    return "\n".join(lines) + "\n"
