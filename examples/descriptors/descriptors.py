"""Calculates descriptors of the molecules of a task with RDKit: a driver of the engine `command`, made to be copied.

Runs in the attempt's scratch folder. Reads `task.json`; writes one row per molecule to `rows.csv`, in the order of the
task and flushed one by one, so that a crash costs one molecule and tells which. Prints a progress line now and then.

What it must not do: judge whether a value is plausible (the run declares that), or let one molecule stop the others.
The same task gives the same bytes: nothing here depends on a seed, a date or a host.
"""

import csv
import json
import sys

from rdkit import Chem, RDLogger
from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors

# Molecules between two progress lines.
PROGRESS_EVERY = 20

COLUMNS = {
    "mw": lambda mol: f"{Descriptors.MolWt(mol):.3f}",
    "logp": lambda mol: f"{Crippen.MolLogP(mol):.4f}",
    "tpsa": lambda mol: f"{rdMolDescriptors.CalcTPSA(mol):.2f}",
    "hbd": lambda mol: str(rdMolDescriptors.CalcNumHBD(mol)),
    "hba": lambda mol: str(rdMolDescriptors.CalcNumHBA(mol)),
    "rotatable_bonds": lambda mol: str(rdMolDescriptors.CalcNumRotatableBonds(mol)),
    "qed": lambda mol: f"{QED.qed(mol):.4f}",
}


def read(molecule):
    """The molecule of an entry of `task.json`: a SMILES, or an SDF record in a file; None if RDKit refuses it."""
    if "structure" in molecule:
        return Chem.MolFromMolFile(molecule["structure"])
    return Chem.MolFromSmiles(molecule["smiles"])


def row(molecule):
    """One molecule's row. A molecule that can't be read is bad with a reason; the others go on."""
    mol = read(molecule)
    if mol is None:
        reason = "structure_invalid" if "structure" in molecule else "smiles_invalid"
        return {"verdict": "bad", "reason": reason, "detail": "RDKit can't read it"}
    if mol.GetNumAtoms() == 0:
        return {"verdict": "bad", "reason": "no_atoms", "detail": "nothing to calculate"}
    return {"verdict": "ok"} | {name: calculate(mol) for name, calculate in COLUMNS.items()}


def main():
    """Calculates every molecule of the task."""
    RDLogger.DisableLog("rdApp.*")
    with open("task.json", encoding="utf-8") as file:
        task = json.load(file)
    molecules = task["molecules"]
    fields = ["molecule_id", "verdict", "reason", "detail", *COLUMNS]
    with open(task["rows"], "w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        rows.writeheader()
        for done, molecule in enumerate(molecules, start=1):
            rows.writerow({"molecule_id": molecule["id"]} | row(molecule))
            file.flush()
            if done % PROGRESS_EVERY == 0 or done == len(molecules):
                print(f"progress {done}/{len(molecules)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
