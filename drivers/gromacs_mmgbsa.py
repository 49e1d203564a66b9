"""One step of an MM-GBSA calculation: `python3 gromacs_mmgbsa.py STEP [INDEX]`, STEP being `receptor` or one of STEPS.

The worker calls it once per step, so that each has its own time limit, timing and log. It runs in the attempt's scratch
folder and reads `task.json`. `receptor` comes once and fills `receptor/`; the others work on one molecule, in
`mmgbsa/<index>/`, and each leaves what the next one needs, last and whole: a step is left out where that file is there
already, or that of a later step, from a checkpoint, or from the store in the case of `parameters`. A molecule that can't
go on gets `refused.json` there, with a reason out of REASONS; then the exit code is 0, since the step itself went well.

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
SOLVENT = ("HOH", "WAT", "SOL")  # Residues of the receptor's file that are left out.
TIME_STEP_PS = 0.002  # The worker counts steps of this length.
GB_MODEL = 5  # OBC II, whose radii are mbondi2: PBRadii=3.
SALT_MOLAR = 0.150
BOX_MARGIN_NM = {"vacuum": 1.3, "tip3p": 1.0}  # More than the cut-off: the complex never sees its own image.

# Beyond this size AM1-BCC takes hours.
HEAVY_ATOMS_MAX = 100
# What GAFF2 has parameters for.
ELEMENTS = {"H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"}
# How far acpype may round a coordinate, in nm.
ROUNDING_NM = 0.002
# Of the conformer whose charges all poses of a structure have.
CONFORMER_SEED = 42
# Conformers that are tried in the place of a reference, and the fewest heavy atoms that it must have in common with a molecule.
PLACED_CONFORMERS = 50
COMMON_ATOMS_MIN = 3
CLASH_ANGSTROM = 3.0
CONTACT_ANGSTROM = 6.0

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
    "equilibration_failed",
    "dynamics_failed",
    "trajectory_failed",
    "energies_failed",
)
FLAGS = (
    "hydrogens_added",
    "placed_on_reference",
    "receptor_hetatm_dropped",
)

# GROMACS has no implicit solvent since 2019: a large box, and a reaction field in place of the solvent's screening.
VACUUM_MDP = """
cutoff-scheme = Verlet
pbc = xyz
coulombtype = reaction-field
rcoulomb = 1.2
epsilon-r = 4
epsilon-rf = 80
vdwtype = Cut-off
rvdw = 1.2
"""
WATER_MDP = """
cutoff-scheme = Verlet
pbc = xyz
coulombtype = PME
rcoulomb = 0.9
vdwtype = Cut-off
rvdw = 0.9
DispCorr = EnerPres
"""
COMMON_MDP = {"vacuum": VACUUM_MDP, "tip3p": WATER_MDP}
EM_MDP = """
integrator = steep
nsteps = 1000
emtol = 200
emstep = 0.01
nstlist = 10
nstenergy = 50
constraints = none
"""
DYNAMICS_MDP = """
integrator = sd
dt = {dt}
nsteps = {steps}
tc-grps = System
tau-t = {friction_ps}
ref-t = 300
ld-seed = {seed}
{velocities}
nstlist = 20
constraints = h-bonds
nstenergy = 100
nstlog = 500
nstxout-compressed = {every}
comm-mode = Linear
"""
NEW_VELOCITIES = "gen-vel = yes\ngen-temp = 300\ngen-seed = {seed}"
KEPT_VELOCITIES = "gen-vel = no\ncontinuation = yes"
# The water finds its density round a receptor that is held. The pair list is of a fixed length: of its own accord mdrun would reckon the
# length anew from the box of a checkpoint, miss other pairs at the cut-off, and not go on from there bit by bit. 0.05 nm beyond the
# cut-off is more than it takes for 20 steps.
EQUILIBRATE_MDP = """
verlet-buffer-tolerance = -1
rlist = 0.95
define = -DPOSRES
refcoord-scaling = com
pcoupl = C-rescale
pcoupltype = isotropic
tau-p = 1.0
ref-p = 1.0
compressibility = 4.5e-5
"""
FRICTION_PS = {"vacuum": 0.2, "tip3p": 1.0}
# What mdrun appends to when it goes on with dynamics, and their checkpoints.
APPENDED = (".log", ".edr", ".xtc")
CHECKPOINTS = (".cpt", "_prev.cpt")
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


def end_by(number):
    """Ends this process by a signal."""
    if number != signal.SIGKILL:  # It can't be handled, so there is nothing to restore.
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def listen(argv, folder, answer):
    """Runs a program to its end. SIGTERM goes to all processes of a step: mdrun then writes a last checkpoint, but dies before if nobody
    reads what it says about that. So this process outlives it, and ends by the signal then."""
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    ended = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "GMX_MAXBACKUP": "-1"},
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    signal.signal(signal.SIGTERM, before)
    if told:
        print(ended.stdout, flush=True)
        end_by(signal.SIGTERM)
    return ended


def run(argv, folder, answer="", name=None, quiet=False):
    """Runs a program to its end and prints what it says; a failure that the machine made is passed on as such."""
    name = name or argv[0]
    print(">>", " ".join(argv), flush=True)
    ended = listen(argv, folder, answer)
    # gmx_MMPBSA draws its progress a hundred times a minute.
    said = "\n".join(line for line in ended.stdout.splitlines() if "\x1b[" not in line)
    if not quiet:
        print(said, flush=True)
    if ended.returncode < 0:
        end_by(-ended.returncode)
    if re.search(r"Received the \w+ signal", said):
        raise OSError(f"{name} was told to stop by a signal from elsewhere")
    if ended.returncode != 0:
        raise Failed(f"{name} ended with {ended.returncode}: {complaint(said)}")
    return said


def gmx(command, folder, *arguments, answer="", quiet=False):
    """Runs one command of GROMACS."""
    return run(["gmx", "-quiet", "-nocopyright", command, *arguments], folder, answer, f"gmx {command}", quiet)


def write(path, text):
    """Writes a text file, which appears whole."""
    with open(path + ".unfinished", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".unfinished", path)


def leave(folder, made, name):
    """Gives a file that a program has made to its end the name under which the next step looks for it."""
    if os.path.exists(f"{folder}/{made}"):
        os.replace(f"{folder}/{made}", f"{folder}/{name}")


def read(path):
    """Reads a text file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def receptor(task):
    """Gives the receptor a topology. Its hydrogens are made anew; what is no ATOM record is left out."""
    os.makedirs("receptor", exist_ok=True)
    lines = read(task["receptor"]).splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "TER")) and line[17:20] not in SOLVENT]
    dropped = sum(line.startswith("HETATM") and line[17:20] not in SOLVENT for line in lines)
    write("receptor/given.pdb", "\n".join(atoms) + "\nEND\n")
    arguments = ["-f", "given.pdb", "-o", "rec.gro", "-p", "rec.top", "-i", "posre.itp", "-ff", FORCE_FIELD]
    gmx("pdb2gmx", "receptor", *arguments, "-water", "tip3p", "-ignh")
    write("receptor/receptor.json", json.dumps({"dropped": dropped}))


def read_pose(task, molecule):
    """The molecule in its pose with all hydrogens, and flags."""
    from rdkit import Chem, RDLogger  # Only this step needs it.

    RDLogger.DisableLog("rdApp.*")
    if "structure" in molecule:
        mol = Chem.MolFromMolBlock(read(molecule["structure"]), removeHs=False)
    elif task["reference"]:
        mol = Chem.MolFromSmiles(molecule["smiles"])
    else:
        raise Refused("pose_missing", "a SMILES has no pose (give a docked or bound one, as a 3D SDF record)")
    if mol is None:
        raise Refused("structure_invalid", "RDKit can't read it, or refuses its valences")
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        raise Refused("no_heavy_atoms", "it has no heavy atom")
    if "structure" in molecule and not mol.GetConformer().Is3D():
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
    if "structure" not in molecule:
        return place(task, molecule, Chem.AddHs(mol)), ["placed_on_reference"]
    given = mol.GetNumAtoms()
    mol = Chem.AddHs(mol, addCoords=True)
    return mol, ["hydrogens_added"] if mol.GetNumAtoms() > given else []


def heavy_atoms(pdb):
    """The positions of a PDB file's heavy ATOM records, in Å."""
    import numpy

    lines = [line for line in read(pdb).splitlines() if line.startswith("ATOM")]
    heavy = [line for line in lines if line[17:20] not in SOLVENT and line[12:16].strip(" 0123456789")[:1] != "H"]
    return numpy.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in heavy])


def place(task, molecule, mol):
    """A molecule in the place of the reference: what they have in common lies on it, and the rest in the conformer that clashes least
    with the receptor, and touches it most."""
    import numpy
    from rdkit import Chem
    from rdkit.Chem import AllChem, rdFMCS, rdMolAlign

    reference = Chem.MolFromMolBlock(read(task["reference"]))
    if reference is None or not reference.GetConformer().Is3D():
        raise OSError(f"the reference `{task['reference']}` is no 3D SDF record")
    alike = {"ringMatchesRingOnly": True, "completeRingsOnly": True}
    common = rdFMCS.FindMCS([reference, Chem.RemoveHs(mol)], **alike)
    if common.numAtoms < COMMON_ATOMS_MIN:
        detail = f"it has {common.numAtoms} heavy atoms in common with the reference (expected {COMMON_ATOMS_MIN} or more)"
        raise Refused("pose_missing", detail)
    pattern = Chem.MolFromSmarts(common.smartsString)
    there = reference.GetSubstructMatch(pattern)
    parameters = AllChem.ETKDGv3()
    parameters.randomSeed = molecule["seed"]
    conformers = list(AllChem.EmbedMultipleConfs(mol, PLACED_CONFORMERS, parameters))
    if not conformers:
        raise Refused("pose_missing", "ETKDGv3 finds no conformer to be placed on the reference")
    receptor = heavy_atoms(task["receptor"])
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    best = None
    for conformer in conformers:
        for here in mol.GetSubstructMatches(pattern, uniquify=False, maxMatches=100):
            rmsd = rdMolAlign.AlignMol(mol, reference, conformer, atomMap=list(zip(here, there)))
            positions = mol.GetConformer(conformer).GetPositions()
            distances = numpy.sqrt(((positions[heavy][:, None] - receptor[None]) ** 2).sum(-1))
            clashes = int((distances < CLASH_ANGSTROM).sum())
            touch = float((1 / distances[distances < CONTACT_ANGSTROM]).sum())
            # Rounded, so that another rounding of the last digits does not choose another conformer.
            rank = (clashes, round(float(rmsd), 1), round(-touch, 2))
            if best is None or rank < best[0]:
                best = (rank, Chem.Mol(mol, confId=conformer))
    return best[1]


def conformer(smiles):
    """A conformer that depends on nothing but the structure, with its atoms in the order of the SMILES; None if there is none to be had."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    as_written = Chem.SmilesParserParams()
    as_written.removeHs = False
    mol = Chem.MolFromSmiles(smiles, as_written)
    parameters = AllChem.ETKDGv3()
    parameters.randomSeed = CONFORMER_SEED
    if mol is None or AllChem.EmbedMolecule(mol, parameters) != 0:
        return None
    if AllChem.MMFFHasAllMoleculeParams(mol):
        AllChem.MMFFOptimizeMolecule(mol)
    return mol


def pose(task, molecule, folder):
    """Reads the pose, and finds the conformer that gives the ligand its parameters: no pose has others than the next one."""
    from rdkit import Chem

    mol, flags = read_pose(task, molecule)
    if json.loads(read("receptor/receptor.json"))["dropped"]:
        flags.append("receptor_hetatm_dropped")
    structure = conformer(Chem.MolToSmiles(mol))
    order = list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    elements = [mol.GetAtomWithIdx(at).GetSymbol() for at in order]
    if structure is None or [atom.GetSymbol() for atom in structure.GetAtoms()] != elements:
        # A cage or a ring that ETKDG can't make: this pose has parameters of its own.
        structure, order = mol, list(range(mol.GetNumAtoms()))
    about = {"charge": Chem.GetFormalCharge(mol), "smiles": Chem.MolToSmiles(Chem.RemoveHs(mol)), "flags": flags}
    # Where each atom of the structure stands in the pose.
    write(f"{folder}/ligand.json", json.dumps({**about, "order": order}))
    for made, name in ((mol, "pose.sdf"), (structure, "structure.sdf")):
        made.SetProp("_Name", "LIG")
        write(f"{folder}/{name}", Chem.MolToMolBlock(made) + "$$$$\n")


def parameters(task, _molecule, folder):
    """Gives the ligand GAFF2 parameters and charges. What comes out depends on `structure.sdf` and the charge model alone: it is made
    once for all poses and all workers."""
    charge = json.loads(read(f"{folder}/ligand.json"))["charge"]
    arguments = ["-n", str(charge), "-c", task["charges"], "-a", "gaff2", "-o", "gmx", "-f"]
    said = run(["acpype", "-i", "structure.sdf", "-b", "LIG", *arguments], folder)
    made = f"{folder}/LIG.acpype/LIG_GMX"
    if not (os.path.exists(f"{made}.itp") and os.path.exists(f"{made}.gro")):
        raise Failed(f"acpype left no topology: {complaint(said)}")
    moved = max_shift(sdf_positions(f"{folder}/structure.sdf"), f"{made}.gro")
    if moved > ROUNDING_NM:
        raise Failed(f"acpype moved an atom by {10 * moved:.2f} Å")
    itp = read(f"{made}.itp")
    # Without its head, which has the date.
    write(f"{folder}/parameters.itp", itp[itp.index("[ atomtypes ]") :])


def sdf_positions(path):
    """The positions of an SDF record's atoms, in Å."""
    lines = read(path).splitlines()
    atoms = lines[4 : 4 + int(lines[3][:3])]
    return [[float(line[at : at + 10]) for at in (0, 10, 20)] for line in atoms]


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


def renumbered(itp, order):
    """A ligand's topology with its atoms in the order of the pose."""
    numbers = {"atoms": 1, "bonds": 2, "pairs": 2, "angles": 3, "dihedrals": 4}
    section, lines, atoms, places = "", [], {}, []
    for line in itp.splitlines():
        line = line.split(";")[0].rstrip()
        title = re.match(r"\[ (\w+) \]", line)
        section = title.group(1) if title else section
        found = None if title or section not in numbers else re.match(rf"((?:\s*\d+){{{numbers[section]}}})\b(.*)", line)
        if found:
            here = [order[int(number) - 1] + 1 for number in found.group(1).split()]
            line = "".join(f"{number:6d}" for number in here) + found.group(2)
            if section == "atoms":
                atoms[here[0]] = line
                places.append(len(lines))
        lines.append(line)
    if sorted(atoms) != list(range(1, len(order) + 1)):
        raise Failed(f"the parameters are of {len(atoms)} atoms, the pose has {len(order)}")
    for at, number in zip(places, sorted(atoms)):
        lines[at] = atoms[number]
    return "\n".join(lines) + "\n", [atoms[number].split()[4] for number in sorted(atoms)]


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


def join(task, molecule, folder):
    """Puts the ligand into the receptor, both into a large box, and water round them if the run wants it."""
    for name in os.listdir("receptor"):
        if name.endswith(".itp"):
            shutil.copy(f"receptor/{name}", f"{folder}/{name}")
    order = json.loads(read(f"{folder}/ligand.json"))["order"]
    itp, names = renumbered(read(f"{folder}/parameters.itp"), order)
    top, types, body = complex_topology(read("receptor/rec.top"), itp)
    write(f"{folder}/complex.top", top)
    write(f"{folder}/ligand_types.itp", types)
    write(f"{folder}/ligand_molecule.itp", body)
    protein, box = gro_atoms("receptor/rec.gro")
    positions = sdf_positions(f"{folder}/pose.sdf")
    residue = (int(protein[-1][:5]) + 1) % 100000
    lines = [line[:15] + f"{(at + 1) % 100000:5d}" + line[20:44] for at, line in enumerate(protein)]
    for at, (name, position) in enumerate(zip(names, positions), len(protein)):
        place_nm = "".join(f"{axis / 10:8.3f}" for axis in position)
        lines.append(f"{residue:5d}{'LIG':5}{name:>5}{(at + 1) % 100000:5d}{place_nm}")
    write(f"{folder}/complex.gro", "\n".join(["complex", str(len(lines)), *lines, box]) + "\n")
    write(f"{folder}/groups.ndx", index_file(len(protein), len(names)))
    margin = ["-bt", "dodecahedron", "-d", str(BOX_MARGIN_NM[task["solvent"]])]
    gmx("editconf", folder, "-f", "complex.gro", "-o", "made.gro", *margin)
    if task["solvent"] == "tip3p":
        solvate(molecule, folder)
    leave(folder, "made.gro", "boxed.gro")


def solvate(molecule, folder):
    """Fills the box with water, and with the ions that make it neutral."""
    shutil.copy(f"{folder}/complex.top", f"{folder}/system.top")
    gmx("solvate", folder, "-cp", "made.gro", "-cs", "spc216.gro", "-o", "solvated.gro", "-p", "system.top")
    write(f"{folder}/ions.mdp", EM_MDP.strip() + WATER_MDP)
    files = ["-f", "ions.mdp", "-c", "solvated.gro", "-p", "system.top", "-o", "ions.tpr", "-po", "mdout.mdp"]
    gmx("grompp", folder, *files, "-maxwarn", "1")  # It warns of the charge that is about to go.
    ions = ["-pname", "NA", "-nname", "CL", "-neutral", "-seed", str(molecule["seed"])]
    gmx("genion", folder, "-s", "ions.tpr", "-o", "made.gro", "-p", "system.top", *ions, answer="SOL\n")


def prepare(task, folder, name, mdp, start, *arguments):
    """Makes the input of a simulation."""
    write(f"{folder}/{name}.mdp", mdp.strip() + COMMON_MDP[task["solvent"]])
    topology = "system.top" if task["solvent"] == "tip3p" else "complex.top"
    files = ["-f", f"{name}.mdp", "-c", start, "-p", topology, "-o", f"{name}.tpr", "-po", "mdout.mdp"]
    gmx("grompp", folder, *files, *arguments)


def mdrun(task, folder, name, *arguments):
    """Runs one simulation. One rank: the number of threads changes the numbers, so it is the run's and fixed. On a GPU if the run gives
    each task one; CUDA sees that one only, as number 0."""
    threads = ["-ntmpi", "1", "-ntomp", str(task["threads"])]
    device = ["-nb", "gpu", "-gpu_id", "0"] if os.environ.get("MOLFLEET_GPU") else ["-nb", "cpu"]
    files = ["-deffnm", name, "-c", f"{name}_made.gro"]
    gmx("mdrun", folder, *files, *threads, "-reprod", *device, *arguments)
    leave(folder, f"{name}_made.gro", f"{name}.gro")


def dynamics(task, molecule, steps, every, velocities):
    """The parameters of dynamics."""
    seed, friction_ps = molecule["seed"], FRICTION_PS[task["solvent"]]
    velocities = velocities.format(seed=seed)
    return DYNAMICS_MDP.format(
        dt=TIME_STEP_PS, steps=steps, seed=seed, every=every, friction_ps=friction_ps, velocities=velocities
    )


def em(task, _molecule, folder):
    """Relaxes clashes between pose and receptor."""
    prepare(task, folder, "em", EM_MDP, "boxed.gro")
    mdrun(task, folder, "em")


def equilibrate(task, molecule, folder):
    """Lets the water find its place and its density."""
    steps = task["equilibration_steps"]
    mdp = dynamics(task, molecule, steps, steps, NEW_VELOCITIES) + EQUILIBRATE_MDP
    simulate(task, folder, "equilibrate", mdp, "em.gro", "-r", "em.gro")


def md(task, molecule, folder):
    """The dynamics whose frames are evaluated."""
    velocities, start = NEW_VELOCITIES, "em.gro"
    if task["solvent"] == "tip3p":
        velocities, start = KEPT_VELOCITIES, "equilibrate.gro"
    steps, frames = task["md_steps"], task["frames"]
    simulate(task, folder, "md", dynamics(task, molecule, steps, steps // frames, velocities), start)


def simulate(task, folder, name, mdp, start, *arguments):
    """Runs dynamics. Where there is a checkpoint, they go on from it, to the same bytes."""
    # Twice as often as the worker looks.
    minutes = float(os.environ.get("MOLFLEET_CHECKPOINT_SECONDS", "600")) / 60 / 2
    often = ["-cpt", f"{minutes:.3f}"]
    resumed = resume(task, folder, name)
    if resumed and goes_on(task, folder, name, *often, *resumed):
        return
    forget(folder, name)
    prepare(task, folder, name, mdp, start, *arguments)
    mdrun(task, folder, name, *often)


def goes_on(task, folder, name, *arguments):
    """Goes on with dynamics, or says that mdrun won't, because of files that don't belong together, say: no molecule is refused for that.
    It has written nothing then. What goes wrong later is no fault of the checkpoint, which stays."""
    log = f"{folder}/{name}.log"
    before = os.stat(log).st_mtime_ns
    try:
        mdrun(task, folder, name, *arguments)
    except Failed as failed:
        if os.stat(log).st_mtime_ns != before:
            raise
        print(f"it can't go on from the checkpoint: {failed}", flush=True)
        return False
    return True


def resume(task, folder, name):
    """The arguments with which dynamics go on from a checkpoint; none without one that is whole, with all that mdrun appends to, and made
    with as many threads."""
    # One that was cut off has an older one beside it.
    checkpoints = [f"{name}{end}" for end in CHECKPOINTS if os.path.exists(f"{folder}/{name}{end}")]
    parts = [f"{name}{end}" for end in (".tpr", *APPENDED)]
    why_not = obstacle(task, folder, parts, f"{name}.log") if checkpoints else None
    if why_not:
        print(f"it can't go on from the checkpoint: {why_not}", flush=True)
        checkpoints = []
    for checkpoint in checkpoints:
        if is_whole(folder, checkpoint):
            return ["-cpi", checkpoint]
    return []


def forget(folder, name):
    """Takes away what is there of dynamics: mdrun would append to it."""
    for end in (".tpr", *APPENDED, *CHECKPOINTS):
        if os.path.exists(f"{folder}/{name}{end}"):
            os.remove(f"{folder}/{name}{end}")


def is_whole(folder, name):
    """Whether GROMACS can read a checkpoint to its end."""
    try:
        gmx("dump", folder, "-cp", name, quiet=True)
    except Failed as failed:
        print(f"{name} can't be used: {failed}", flush=True)
        return False
    return True


def obstacle(task, folder, parts, log):
    """Why nothing can go on from the checkpoint in a folder, if so: one of the parts is missing, or it was made with other threads, which
    change its numbers."""
    missing = [name for name in parts if not os.path.exists(f"{folder}/{name}")]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    counts = {int(count) for count in re.findall(r"^Using (\d+) OpenMP threads?", read(f"{folder}/{log}"), re.M)}
    others = sorted(counts - {task["threads"]})
    return f"it was made with {others[0]} threads (expected {task['threads']})" if others else None


def whole(_task, _molecule, folder):
    """Puts molecules together that the box has cut: broken ones give energies of millions, and no error. Takes the water away."""
    common = ["-s", "md.tpr", "-n", "groups.ndx", "-pbc", "mol", "-center", "-ur", "compact"]
    for source, to in (("md.xtc", "whole.xtc"), ("md.gro", "made.gro")):
        gmx("trjconv", folder, "-f", source, "-o", to, *common, answer="Receptor\nComplex\n")
    gmx("convert-tpr", folder, "-s", "md.tpr", "-n", "groups.ndx", "-o", "complex.tpr", answer="Complex\n")
    leave(folder, "made.gro", "last.gro")


def energies(_task, _molecule, folder):
    """Energies of receptor, ligand and complex in implicit solvent, frame by frame."""
    write(f"{folder}/mmgbsa.in", MMGBSA_IN.format(model=GB_MODEL, salt=SALT_MOLAR))
    inputs = ["-i", "mmgbsa.in", "-cs", "complex.tpr", "-ct", "whole.xtc", "-ci", "groups.ndx", "-cg", "0", "1"]
    outputs = ["-cp", "complex.top", "-o", "made.dat", "-eo", "energies.csv", "-nogui"]
    run(["gmx_MMPBSA", "-O", *inputs, *outputs], folder)
    leave(folder, "made.dat", "energies.dat")


# What each step does, and the reason of a molecule over which a program of it fails.
STEPS = {
    "pose": (pose, "parameters_failed"),
    "parameters": (parameters, "parameters_failed"),
    "complex": (join, "complex_failed"),
    "em": (em, "minimisation_failed"),
    "equilibrate": (equilibrate, "equilibration_failed"),
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
