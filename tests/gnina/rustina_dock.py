"""Docks with rustina (PyPI) behind gnina's command line. It is NOT gnina: another search, Vina's empirical function in another
implementation, and the weights of GNINA's `fast` networks. It says so when it is asked for its version, so that every row made with
it is labelled.

Needs `rustina[prep]`, and Open Babel for a receptor in PDB.
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version

import options

# Before anything heavy is imported, since gnina tells its version at once.
GIVEN = options.parse(sys.argv[1:], f"rustina {version('rustina')}, CNN weights of GNINA, not gnina itself")

import rustina
from meeko import PDBQTMolecule, RDKitMolCreate
from rdkit import Chem, RDLogger

NUMBERS = (("CNNscore", "cnn_score"), ("CNNaffinity", "cnn_affinity"))
# Below this, rustina's search finds other poses for other seeds.
RUNS_MIN = 16


def receptor_pdbqt(path):
    """The receptor as PDBQT, hydrogens as they are in the file."""
    if not path.lower().endswith(".pdbqt"):
        with tempfile.TemporaryDirectory() as folder:
            made = os.path.join(folder, "receptor.pdbqt")
            command = ["obabel", "-ipdb", path, "-opdbqt", "-O", made, "-xr"]
            subprocess.run(command, check=True, capture_output=True)
            return receptor_pdbqt(made)
    with open(path, encoding="utf-8") as file:
        return file.read()


def box(given):
    """Centre and edges of the box."""
    if not given.autobox_ligand:
        return [[getattr(given, f"{what}_{axis}") for axis in "xyz"] for what in ("center", "size")]
    atoms = next(iter(Chem.SDMolSupplier(given.autobox_ligand))).GetConformer().GetPositions()
    low, high = atoms.min(0), atoms.max(0)
    return ((low + high) / 2).tolist(), (high - low + 2 * given.autobox_add).tolist()


def record(pose):
    """An SDF record of a pose, with gnina's tags."""
    molecule = RDKitMolCreate.from_pdbqt_mol(PDBQTMolecule(pose["pdbqt"], skip_typing=True))[0]
    molecule.ClearProp("meeko")
    molecule.SetProp("minimizedAffinity", f"{pose['affinity']:.5f}")
    if pose.get("cnn_score") is not None:
        for tag, key in NUMBERS:
            molecule.SetProp(tag, f"{pose[key]:.10f}")
        molecule.SetProp("CNN_VS", f"{pose['cnn_score'] * pose['cnn_affinity']:.10f}")
    return molecule


def main(given):
    """Docks one ligand."""
    RDLogger.DisableLog("rdApp.*")
    if given.cnn_scoring not in ("none", "rescore"):
        sys.exit(f"rustina has no --cnn_scoring {given.cnn_scoring}")
    centre, size = box(given)
    ligand = rustina.prepare_ligand(given.ligand, skip_gen3d=True)[0]["pdbqt"]
    poses = rustina.dock(
        receptor_pdbqt(given.receptor),
        ligand,
        *centre,
        *size,
        runs=max(RUNS_MIN, given.exhaustiveness),
        scoring="vina",
        seed=given.seed,
        threads=given.cpu,
        num_modes=given.num_modes,
        cnn_pool_size=given.num_modes,
        skip_cnn=given.cnn_scoring == "none",
    )
    with Chem.SDWriter(given.out) as out:
        for pose in poses:
            out.write(record(pose))
    rows = [(p["affinity"], 0, p.get("cnn_score") or 0, p.get("cnn_affinity") or 0) for p in poses]
    text = options.table(rows)
    if given.log:
        with open(given.log, "w", encoding="utf-8") as log:
            log.write(text)
    print(text)


main(GIVEN)
