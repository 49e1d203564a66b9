"""Gives every molecule of a docking task a 3D structure.

Runs in the attempt's scratch folder. Reads `task.json`; writes `ligands/<index>.sdf` for every molecule that can be
docked and one line per molecule to `prepared.jsonl`, flushed as it goes, so that a crash tells which molecule it was.
Makes the folder `poses` for the docking that follows.

What it must not do: judge a score, guess a protonation state, or let one molecule stop the others. The same task gives
the same bytes: every random number comes from the molecule's seed, and no date, host or path is written.

Method: ETKDGv3 (Wang, Witek, Landrum, Riniker 2020, doi:10.1021/acs.jcim.0c00025), then MMFF94 (Halgren 1996,
doi:10.1002/(SICI)1096-987X(199604)17:5/6<490::AID-JCC1>3.0.CO;2-P), or UFF where MMFF94 has no parameters.
"""

import json
import os
import sys

from rdkit import Chem, RDLogger
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolDescriptors

# Cyclosporin has 85. Beyond this size neither the embedding's run time nor Vina's scoring function is dependable.
HEAVY_ATOMS_MAX = 100
# Per try; ordinary drugs need one. With HEAVY_ATOMS_MAX it bounds a hopeless molecule to seconds.
EMBED_ITERATIONS_MAX = 100
MINIMISE_STEPS_MAX = 2000
# What Open Babel's PDBQT and Vina's atom types cover, without the metals, whose bonding neither force field describes.
ELEMENTS = {"H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I"}

REASONS = (
    "smiles_invalid",
    "structure_invalid",
    "structure_not_3d",
    "no_heavy_atoms",
    "too_large",
    "unsupported_element",
    "embed_failed",
    "preparation_failed",
)
FLAGS = (
    "salt_stripped",
    "stereo_undefined",
    "hydrogens_added",
    "random_coordinates",
    "minimised_by_uff",
    "not_minimised",
    "minimisation_unconverged",
)


class Refused(Exception):
    """A molecule that can't be docked, with a reason out of REASONS and the evidence."""

    def __init__(self, reason, detail):
        super().__init__(detail)
        assert reason in REASONS, reason
        self.reason = reason


def problem(unsanitised):
    """The sentence with which RDKit refuses a molecule, or None if its grammar is wrong already."""
    if unsanitised is None:
        return None
    try:
        Chem.SanitizeMol(unsanitised)
    except Exception as error:  # RDKit raises many types; each says what is wrong.
        return " ".join(str(error).split())
    return None


def read_smiles(smiles):
    """A molecule from a SMILES, without its explicit hydrogens."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        why = problem(Chem.MolFromSmiles(smiles, sanitize=False))
        raise Refused("smiles_invalid", why or "not the grammar of SMILES")
    return mol


def read_structure(path):
    """A molecule with its coordinates and hydrogens from the only record of an SDF file."""
    with open(path, encoding="utf-8", errors="replace", newline=None) as file:
        block = file.read()
    mol = Chem.MolFromMolBlock(block, removeHs=False)
    if mol is None:
        why = problem(Chem.MolFromMolBlock(block, sanitize=False, removeHs=False))
        raise Refused("structure_invalid", why or "not a record of an SDF file")
    if mol.GetNumAtoms() and not mol.GetConformer().Is3D():
        raise Refused("structure_not_3d", "all z coordinates are 0 (give a 3D record, or the SMILES)")
    return mol


def largest_fragment(mol):
    """The fragment with most heavy atoms; ties go to the heavier one, then to the first canonical SMILES."""
    fragments = Chem.GetMolFrags(mol, asMols=True)

    def rank(fragment):
        smiles = Chem.MolToSmiles(Chem.RemoveHs(fragment))
        return (-fragment.GetNumHeavyAtoms(), -rdMolDescriptors.CalcExactMolWt(fragment), smiles)

    return min(fragments, key=rank)


def check(mol):
    """Refuses what Vina can't dock."""
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        raise Refused("no_heavy_atoms", "nothing but hydrogen")
    if heavy > HEAVY_ATOMS_MAX:
        raise Refused("too_large", f"{heavy} heavy atoms (at most {HEAVY_ATOMS_MAX})")
    foreign = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - ELEMENTS)
    if foreign:
        raise Refused("unsupported_element", f"{' '.join(foreign)} has no atom type in Vina's PDBQT")


def stereo_undefined(mol):
    """Whether a stereocentre or double bond that could be defined is not."""
    return any(info.specified == Chem.StereoSpecified.Unspecified for info in Chem.FindPotentialStereo(mol))


def embed(mol, seed, flags):
    """Makes 3D coordinates; a second try starts from random ones, which large rings need."""
    for random_coordinates in (False, True):
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed
        parameters.maxIterations = EMBED_ITERATIONS_MAX
        parameters.useRandomCoords = random_coordinates
        if rdDistGeom.EmbedMolecule(mol, parameters) == 0:
            if random_coordinates:
                flags.append("random_coordinates")
            return
    raise Refused("embed_failed", f"no 3D geometry in 2 x {EMBED_ITERATIONS_MAX} tries (impossible stereo or strain?)")


def minimise(mol, flags):
    """Relaxes the embedded geometry and says so where that was not MMFF94 or came to no end."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        unconverged = rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=MINIMISE_STEPS_MAX)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        flags.append("minimised_by_uff")
        unconverged = rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=MINIMISE_STEPS_MAX)
    else:
        flags.append("not_minimised")
        return
    if unconverged:
        flags.append("minimisation_unconverged")


def prepare(molecule, flags):
    """The molecule in 3D with all its hydrogens."""
    structure = molecule.get("structure")
    mol = read_smiles(molecule["smiles"]) if structure is None else read_structure(structure)
    if len(Chem.GetMolFrags(mol)) > 1:
        flags.append("salt_stripped")
        mol = largest_fragment(mol)
    check(mol)
    if structure is not None:
        given = mol.GetNumAtoms()
        mol = Chem.AddHs(mol, addCoords=True)
        if mol.GetNumAtoms() > given:
            flags.append("hydrogens_added")
        return mol
    if stereo_undefined(mol):
        flags.append("stereo_undefined")
    mol = Chem.AddHs(mol)
    embed(mol, molecule["seed"], flags)
    minimise(mol, flags)
    return mol


def record(molecule):
    """Prepares one molecule and writes its file; returns its line of `prepared.jsonl`."""
    flags = []
    line = {"index": molecule["index"], "ok": False, "reason": "", "detail": ""}
    try:
        mol = prepare(molecule, flags)
        Chem.AssignStereochemistryFrom3D(mol)
        skeleton = Chem.RemoveHs(mol)
        line["docked_smiles"] = Chem.MolToSmiles(skeleton)
        line["heavy_atoms"] = skeleton.GetNumHeavyAtoms()
        line["rotatable_bonds"] = rdMolDescriptors.CalcNumRotatableBonds(skeleton)
        mol.SetProp("_Name", molecule["id"])
        with open(f"ligands/{molecule['index']:05}.sdf", "w", encoding="utf-8") as file:
            file.write(Chem.MolToMolBlock(mol) + "$$$$\n")
        line["ok"] = True
    except Refused as refused:
        line["reason"], line["detail"] = refused.reason, str(refused)
    except OSError:
        raise  # A full or broken disk is the machine's fault, not the molecule's.
    except Exception as error:  # One molecule must never stop the others.
        line["reason"] = "preparation_failed"
        line["detail"] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    line["flags"] = flags
    return line


def main():
    """Prepares the molecules of `task.json`, in their order."""
    RDLogger.DisableLog("rdApp.*")
    os.makedirs("ligands", exist_ok=True)
    os.makedirs("poses", exist_ok=True)
    with open("task.json", encoding="utf-8") as file:
        molecules = json.load(file)["molecules"]
    with open("prepared.jsonl", "w", encoding="utf-8") as file:
        for molecule in molecules:
            json.dump(record(molecule), file)
            file.write("\n")
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
