"""One step of an MM-GBSA calculation: `python3 gromacs_mmgbsa.py STEP [INDEX]`, STEP being `receptor` or one of STEPS.

The worker calls it once per step, so that each has its own time limit, timing and log. It runs in the attempt's scratch
folder and reads `task.json`. `receptor` comes once and fills `receptor/`; the others work on one molecule, in
`mmgbsa/<index>/`, and each leaves what the next one needs. A molecule that can't go on gets `refused.json` there, with a
reason out of REASONS; then the exit code is 0, since the step itself went well.

What it must not do: judge an energy, move the pose that was given, guess a protonation state, or take what a broken machine
did for a property of a molecule: a program ended by a signal ends this one by the same signal, any other trouble by exit 1.
The same task gives the same numbers: every random number comes from the molecule's seed.

Method and sources: docs/science.md.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

FORCE_FIELD = "amber99sb-ildn"  # Of the receptor; the ligand gets GAFF2.
TIME_STEP_PS = 0.002  # The worker counts steps of this length.
GB_MODEL = 5  # OBC II, whose radii are mbondi2: PBRadii=3.
SALT_MOLAR = 0.150
BOX_MARGIN_NM = 1.3  # More than the cut-off: the complex never sees its own image.

# Beyond this size AM1-BCC takes hours.
HEAVY_ATOMS_MAX = 100
# What GAFF2 has parameters for.
ELEMENTS = {"H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"}
# How far acpype may round a coordinate, in nm.
ROUNDING_NM = 0.002

REASONS = (
    "pose_missing",
    "structure_invalid",
    "structure_not_3d",
    "no_heavy_atoms",
    "several_fragments",
    "too_large",
    "unsupported_element",
    "open_shell",
    "parameters_failed",
    "complex_failed",
    "minimisation_failed",
    "dynamics_failed",
    "trajectory_failed",
    "energies_failed",
)
FLAGS = (
    "hydrogens_added",
    "receptor_hetatm_dropped",
)

# GROMACS has no implicit solvent since 2019: a large box, and a reaction field in place of the solvent's screening.
COMMON_MDP = """
cutoff-scheme = Verlet
pbc = xyz
coulombtype = reaction-field
rcoulomb = 1.2
epsilon-r = 4
epsilon-rf = 80
vdwtype = Cut-off
rvdw = 1.2
"""
EM_MDP = """
integrator = steep
nsteps = 1000
emtol = 200
emstep = 0.01
nstlist = 10
nstenergy = 50
constraints = none
"""
MD_MDP = """
integrator = sd
dt = {dt}
nsteps = {steps}
tc-grps = System
tau-t = 0.2
ref-t = 300
ld-seed = {seed}
gen-vel = yes
gen-temp = 300
gen-seed = {seed}
nstlist = 20
constraints = h-bonds
nstenergy = 100
nstlog = 500
nstxout-compressed = {every}
comm-mode = Linear
"""
# Frame 1 is the minimised structure; only what the dynamics made counts.
MMGBSA_IN = """&general
startframe=2, endframe=9999999, interval=1, PBRadii=3,
/
&gb
igb={model}, saltcon={salt},
/
"""


class Refused(Exception):
    """A molecule that can't go on, with a reason out of REASONS and the evidence."""

    def __init__(self, reason, detail):
        super().__init__(detail)
        assert reason in REASONS, reason
        self.reason = reason


class Failed(Exception):
    """A program that ended with an error of its own."""


def complaint(output):
    """The sentence with which a program gave up, as far as it has one."""
    fatal = re.search(r"(?:Fatal error|Error in user input|Inconsistency in user input):\n(.*?)\n\n", output, re.S)
    lines = fatal.group(1).splitlines() if fatal else output.splitlines()
    errors = [line for line in lines if "error" in line.lower()]
    chosen = lines if fatal else (errors or [line for line in lines if line.strip()])[-1:]
    return " ".join(" ".join(chosen).split())[:300]


def run(argv, folder, answer="", name=None):
    """Runs a program to its end and prints what it says; a failure that the machine made is passed on as such."""
    name = name or argv[0]
    print(">>", " ".join(argv), flush=True)
    env = {**os.environ, "GMX_MAXBACKUP": "-1"}
    ended = subprocess.run(
        argv,
        cwd=folder,
        env=env,
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    # gmx_MMPBSA draws its progress a hundred times a minute.
    said = "\n".join(line for line in ended.stdout.splitlines() if "\x1b[" not in line)
    print(said, flush=True)
    if ended.returncode < 0:
        signal.signal(-ended.returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -ended.returncode)
    if re.search(r"Received the \w+ signal", said):
        raise OSError(f"{name} was told to stop by a signal from elsewhere")
    if ended.returncode != 0:
        raise Failed(f"{name} ended with {ended.returncode}: {complaint(said)}")
    return said


def gmx(command, folder, *arguments, answer=""):
    """Runs one command of GROMACS."""
    return run(["gmx", "-quiet", "-nocopyright", command, *arguments], folder, answer, f"gmx {command}")


def write(path, text):
    """Writes a text file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    """Reads a text file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def receptor(task):
    """Gives the receptor a topology. Its hydrogens are made anew; what is no ATOM record is left out."""
    os.makedirs("receptor", exist_ok=True)
    lines = read(task["receptor"]).splitlines()
    solvent = ("HOH", "WAT", "SOL")
    atoms = [line for line in lines if line.startswith(("ATOM", "TER")) and line[17:20] not in solvent]
    dropped = sum(line.startswith("HETATM") and line[17:20] not in solvent for line in lines)
    write("receptor/given.pdb", "\n".join(atoms) + "\nEND\n")
    arguments = ["-f", "given.pdb", "-o", "rec.gro", "-p", "rec.top", "-i", "posre.itp", "-ff", FORCE_FIELD]
    gmx("pdb2gmx", "receptor", *arguments, "-water", "tip3p", "-ignh")
    write("receptor/receptor.json", json.dumps({"dropped": dropped}))


def read_pose(molecule):
    """The molecule in its pose with all hydrogens, and flags."""
    from rdkit import Chem, RDLogger  # Only this step needs it.

    RDLogger.DisableLog("rdApp.*")
    if "structure" not in molecule:
        raise Refused("pose_missing", "a SMILES has no pose (give a docked or bound one, as a 3D SDF record)")
    mol = Chem.MolFromMolBlock(read(molecule["structure"]), removeHs=False)
    if mol is None:
        raise Refused("structure_invalid", "RDKit can't read the SDF record, or refuses its valences")
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        raise Refused("no_heavy_atoms", "the SDF record has no heavy atom")
    if not mol.GetConformer().Is3D():
        raise Refused("structure_not_3d", "all z coordinates are 0 (give a docked or bound pose)")
    fragments = len(Chem.GetMolFrags(mol))
    if fragments > 1:
        raise Refused("several_fragments", f"{fragments} fragments (give one molecule, without its salt)")
    if heavy > HEAVY_ATOMS_MAX:
        raise Refused("too_large", f"{heavy} heavy atoms (at most {HEAVY_ATOMS_MAX})")
    foreign = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - ELEMENTS)
    if foreign:
        raise Refused("unsupported_element", f"GAFF2 has no parameters for {' '.join(foreign)}")
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    if radicals:
        raise Refused("open_shell", f"{radicals} unpaired electrons")
    given = mol.GetNumAtoms()
    mol = Chem.AddHs(mol, addCoords=True)
    return mol, ["hydrogens_added"] if mol.GetNumAtoms() > given else []


def ligand(task, molecule, folder):
    """Gives the ligand GAFF2 parameters and charges, in the pose in which it came."""
    from rdkit import Chem

    mol, flags = read_pose(molecule)
    if json.loads(read("receptor/receptor.json"))["dropped"]:
        flags.append("receptor_hetatm_dropped")
    mol.SetProp("_Name", "LIG")
    write(f"{folder}/pose.sdf", Chem.MolToMolBlock(mol) + "$$$$\n")
    charge = Chem.GetFormalCharge(mol)
    arguments = ["-n", str(charge), "-c", task["charges"], "-a", "gaff2", "-o", "gmx", "-f"]
    said = run(["acpype", "-i", "pose.sdf", "-b", "LIG", *arguments], folder)
    made = f"{folder}/LIG.acpype/LIG_GMX"
    if not (os.path.exists(f"{made}.itp") and os.path.exists(f"{made}.gro")):
        raise Failed(f"acpype left no topology: {complaint(said)}")
    moved = max_shift(mol.GetConformer().GetPositions(), f"{made}.gro")
    if moved > ROUNDING_NM:
        raise Failed(f"acpype moved an atom of the pose by {10 * moved:.2f} Å")
    about = {"charge": charge, "smiles": Chem.MolToSmiles(Chem.RemoveHs(mol)), "flags": flags}
    write(f"{folder}/ligand.json", json.dumps(about))
    shutil.copy(f"{made}.itp", f"{folder}/ligand.itp")
    shutil.copy(f"{made}.gro", f"{folder}/ligand.gro")


def gro_atoms(path):
    """The lines of a .gro file's atoms, and its box."""
    lines = read(path).splitlines()
    atoms = int(lines[1])
    return lines[2 : 2 + atoms], lines[2 + atoms]


def max_shift(positions, path):
    """The largest difference along an axis between positions in Å and a .gro file, in nm."""
    atoms, _ = gro_atoms(path)
    if len(atoms) != len(positions):
        raise Failed(f"acpype made {len(atoms)} of {len(positions)} atoms")
    found = ([float(line[at : at + 8]) for at in (20, 28, 36)] for line in atoms)
    return max(abs(x / 10 - y) for here, there in zip(positions, found) for x, y in zip(here, there))


def complex_topology(rec_top, lig_itp):
    """The receptor's topology with the ligand's atom types and the ligand in it, and the ligand's own file."""
    types, body = lig_itp.index("[ atomtypes ]"), lig_itp.index("[ moleculetype ]")
    field = re.search(r'^#include ".*forcefield\.itp"$', rec_top, re.M)
    water = rec_top.index("; Include water topology")
    top = (
        rec_top[: field.end()]
        + '\n#include "ligand_types.itp"\n'
        + rec_top[field.end() : water]
        + '#include "ligand_molecule.itp"\n\n'
        + rec_top[water:].rstrip("\n")
        + "\nLIG 1\n"
    )
    return top, lig_itp[types:body], lig_itp[body:]


def index_file(receptor_atoms, ligand_atoms):
    """Groups 0, 1 and 2: receptor, ligand and both."""
    last = receptor_atoms + ligand_atoms
    groups = {"Receptor": (1, receptor_atoms), "Ligand": (receptor_atoms + 1, last), "Complex": (1, last)}
    text = ""
    for name, (first, end) in groups.items():
        numbers = [str(number) for number in range(first, end + 1)]
        rows = [" ".join(numbers[at : at + 15]) for at in range(0, len(numbers), 15)]
        text += f"[ {name} ]\n" + "\n".join(rows) + "\n"
    return text


def join(_task, _molecule, folder):
    """Puts the ligand into the receptor, and both into a large box."""
    for name in os.listdir("receptor"):
        if name.endswith(".itp"):
            shutil.copy(f"receptor/{name}", f"{folder}/{name}")
    top, types, body = complex_topology(read("receptor/rec.top"), read(f"{folder}/ligand.itp"))
    write(f"{folder}/complex.top", top)
    write(f"{folder}/ligand_types.itp", types)
    write(f"{folder}/ligand_molecule.itp", body)
    protein, box = gro_atoms("receptor/rec.gro")
    guest, _ = gro_atoms(f"{folder}/ligand.gro")
    residue = (int(protein[-1][:5]) + 1) % 100000
    lines = [line[:15] + f"{(at + 1) % 100000:5d}" + line[20:44] for at, line in enumerate(protein)]
    for at, line in enumerate(guest, len(protein)):
        lines.append(f"{residue:5d}LIG  " + line[10:15] + f"{(at + 1) % 100000:5d}" + line[20:44])
    write(f"{folder}/complex.gro", "\n".join(["complex", str(len(lines)), *lines, box]) + "\n")
    write(f"{folder}/groups.ndx", index_file(len(protein), len(guest)))
    gmx("editconf", folder, "-f", "complex.gro", "-o", "boxed.gro", "-bt", "dodecahedron", "-d", str(BOX_MARGIN_NM))


def mdrun(task, folder, name, mdp, start):
    """Runs one simulation. One rank: the number of threads changes the numbers, so it is the run's and fixed."""
    write(f"{folder}/{name}.mdp", mdp.strip() + COMMON_MDP)
    files = ["-f", f"{name}.mdp", "-c", start, "-p", "complex.top", "-o", f"{name}.tpr", "-po", "mdout.mdp"]
    gmx("grompp", folder, *files)
    threads = ["-ntmpi", "1", "-ntomp", str(task["threads"])]
    gmx("mdrun", folder, "-deffnm", name, *threads, "-reprod", "-nb", "cpu")


def em(task, _molecule, folder):
    """Relaxes clashes between pose and receptor."""
    mdrun(task, folder, "em", EM_MDP, "boxed.gro")


def md(task, molecule, folder):
    """The dynamics whose frames are evaluated."""
    every = task["md_steps"] // task["frames"]
    seed = molecule["seed"]
    mdp = MD_MDP.format(dt=TIME_STEP_PS, steps=task["md_steps"], seed=seed, every=every)
    mdrun(task, folder, "md", mdp, "em.gro")


def whole(_task, _molecule, folder):
    """Puts molecules together that the box has cut: broken ones give energies of millions, and no error."""
    common = ["-s", "md.tpr", "-n", "groups.ndx", "-pbc", "mol", "-center", "-ur", "compact"]
    for source, to in (("md.xtc", "whole.xtc"), ("md.gro", "last.gro")):
        gmx("trjconv", folder, "-f", source, "-o", to, *common, answer="Receptor\nComplex\n")


def energies(_task, _molecule, folder):
    """Energies of receptor, ligand and complex in implicit solvent, frame by frame."""
    write(f"{folder}/mmgbsa.in", MMGBSA_IN.format(model=GB_MODEL, salt=SALT_MOLAR))
    inputs = ["-i", "mmgbsa.in", "-cs", "md.tpr", "-ct", "whole.xtc", "-ci", "groups.ndx", "-cg", "0", "1"]
    outputs = ["-cp", "complex.top", "-o", "energies.dat", "-eo", "energies.csv", "-nogui"]
    run(["gmx_MMPBSA", "-O", *inputs, *outputs], folder)


# What each step does, and the reason of a molecule over which a program of it fails.
STEPS = {
    "ligand": (ligand, "parameters_failed"),
    "complex": (join, "complex_failed"),
    "em": (em, "minimisation_failed"),
    "md": (md, "dynamics_failed"),
    "whole": (whole, "trajectory_failed"),
    "energies": (energies, "energies_failed"),
}


def work_on(step, index, task):
    """Does one step of one molecule, or refuses the molecule."""
    molecule = next(molecule for molecule in task["molecules"] if molecule["index"] == index)
    folder = f"mmgbsa/{index:05}"
    os.makedirs(folder, exist_ok=True)
    do, reason = STEPS[step]
    try:
        try:
            do(task, molecule, folder)
        except Failed as failed:
            raise Refused(reason, str(failed)) from failed
    except Refused as refused:
        print(f"{refused.reason}: {refused}", file=sys.stderr)
        write(f"{folder}/refused.json", json.dumps({"reason": refused.reason, "detail": str(refused)}))


def main():
    """Does the step that the command line names."""
    step = sys.argv[1]
    task = json.loads(read("task.json"))
    try:
        if step == "receptor":
            receptor(task)
        else:
            work_on(step, int(sys.argv[2]), task)
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
