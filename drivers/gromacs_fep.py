"""One step of a hydration free energy: `python3 gromacs_fep.py STEP`, STEP being one of STEPS.

The worker calls it once per step, so that each has its own time limit, timing and log. It runs in the attempt's scratch folder
and reads `task.json`. `solute`, `solvate`, `relax`, `equilibrate` and `pack` make `setup.tar`, once for all windows of a
molecule: whoever comes first makes it, all others get its bytes. `window` runs one window from it, `energies` looks at what it
left, and `reduce` turns the windows' `windows/<number>/dhdl.xvg` into a free energy. A molecule that can't go on gets
`fep/refused.json`, with a reason out of REASONS; then the exit code is 0, since the step itself went well.

A window that finds a checkpoint in its folder goes on from there, and gives the bytes that it would have given uninterrupted.

What it must not do: judge a number, or take what a broken machine did for a property of a molecule: a program ended by a signal
ends this one by the same signal, any other trouble by exit 1. The same task gives the same numbers: every random number comes
from the molecule's seed.

Method and sources: docs/science.md.
"""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile

FORCE_FIELD = "amber99sb-ildn"  # For its TIP3P water; the solute gets GAFF2.
TIME_STEP_PS = 0.002  # The worker counts steps of this length.
KJ_PER_KCAL = 4.184
GAS_CONSTANT_KJ = 0.0083144626  # kJ/mol/K
# Files of the set-up, in the order in which they are packed.
SETUP = ("system.gro", "system.top", "solute_types.itp", "solute.itp")
# What mdrun appends to when it goes on; without one of them it refuses.
APPENDED = ("window.log", "window.edr", "window.xtc", "dhdl.xvg")
# How often a worker stores a checkpoint, where none says it.
STORED_EVERY_SECONDS = 600
# The newest first.
CHECKPOINTS = ("window.cpt", "window_prev.cpt")

# How much water there has to be between the molecule and its next image, in nm: more than the forces reach.
WATER_NM = 1.2
# Beyond this size AM1-BCC takes hours, and a window of picoseconds says nothing.
HEAVY_ATOMS_MAX = 50
# What GAFF2 has parameters for.
ELEMENTS = {"H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"}

REASONS = (
    "structure_invalid",
    "no_heavy_atoms",
    "several_fragments",
    "too_large",
    "unsupported_element",
    "open_shell",
    "charged",
    "no_conformer",
    "box_too_small",
    "parameters_failed",
    "solvation_failed",
    "minimisation_failed",
    "equilibration_failed",
    "dynamics_failed",
    "energies_failed",
    "reduction_failed",
)

COMMON_MDP = """
cutoff-scheme = Verlet
nstlist = 20
coulombtype = PME
rcoulomb = {cutoff}
fourierspacing = 0.12
vdwtype = Cut-off
rvdw = {cutoff}
DispCorr = EnerPres
"""
RELAX_MDP = """
integrator = steep
nsteps = 300
emtol = 200
"""
DYNAMICS_MDP = """
integrator = sd
dt = {dt}
nsteps = {steps}
tc-grps = System
tau-t = 1.0
ref-t = {temperature}
ld-seed = {seed}
constraints = h-bonds
"""
# The density of the box is found once; the windows keep it, since only NVT goes on from a checkpoint bit by bit.
EQUILIBRATE_MDP = """
gen-vel = yes
gen-temp = {temperature}
gen-seed = {seed}
pcoupl = C-rescale
tau-p = 0.5
ref-p = 1.0
compressibility = 4.5e-5
nstenergy = 50
"""
WINDOW_MDP = """
gen-vel = no
nstenergy = {energy_every}
nstlog = {energy_every}
nstxout-compressed = {frame_every}
free-energy = yes
couple-moltype = LIG
couple-lambda0 = vdw-q
couple-lambda1 = none
couple-intramol = no
coul-lambdas = {coulomb}
vdw-lambdas = {vdw}
sc-alpha = 0.5
sc-power = 1
sc-sigma = 0.3
nstdhdl = {dhdl_every}
calc-lambda-neighbors = -1
init-lambda-state = {window}
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
    if not quiet:
        print(ended.stdout, flush=True)
    if ended.returncode < 0:
        end_by(-ended.returncode)
    if re.search(r"Received the \w+ signal", ended.stdout):
        raise OSError(f"{name} was told to stop by a signal from elsewhere")
    if ended.returncode != 0:
        raise Failed(f"{name} ended with {ended.returncode}: {complaint(ended.stdout)}")
    return ended.stdout


def gmx(command, folder, *arguments, answer="", quiet=False):
    """Runs one command of GROMACS."""
    return run(["gmx", "-quiet", "-nocopyright", command, *arguments], folder, answer, f"gmx {command}", quiet)


def write(path, text):
    """Writes a text file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    """Reads a text file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_molecule(molecule):
    """The molecule with all hydrogens, in one conformer; that of an SDF record with coordinates is kept."""
    from rdkit import Chem, RDLogger  # Only this step needs it.
    from rdkit.Chem import AllChem

    RDLogger.DisableLog("rdApp.*")
    if "structure" in molecule:
        mol = Chem.MolFromMolBlock(read(molecule["structure"]), removeHs=False)
    else:
        mol = Chem.MolFromSmiles(molecule["smiles"])
    if mol is None:
        raise Refused("structure_invalid", "RDKit can't read it, or refuses its valences")
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        raise Refused("no_heavy_atoms", "it has no heavy atom")
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
    charge = Chem.GetFormalCharge(mol)
    if charge:
        raise Refused("charged", f"a charge of {charge:+d}: an ion in a small box needs corrections that are not made here")
    has_pose = "structure" in molecule and mol.GetConformer().Is3D()
    mol = Chem.AddHs(mol, addCoords=has_pose)
    if not has_pose:
        parameters = AllChem.ETKDGv3()
        parameters.randomSeed = molecule["seed"]
        if AllChem.EmbedMolecule(mol, parameters) != 0:
            raise Refused("no_conformer", "ETKDGv3 finds no conformer")
        if AllChem.MMFFHasAllMoleculeParams(mol):
            AllChem.MMFFOptimizeMolecule(mol)
    return mol


def solute(task, molecule):
    """Gives the molecule GAFF2 parameters and charges."""
    from rdkit import Chem

    mol = read_molecule(molecule)
    mol.SetProp("_Name", "LIG")
    write("fep/solute.sdf", Chem.MolToMolBlock(mol) + "$$$$\n")
    arguments = ["-n", "0", "-c", task["charges"], "-a", "gaff2", "-o", "gmx", "-f"]
    said = run(["acpype", "-i", "solute.sdf", "-b", "LIG", *arguments], "fep")
    made = "fep/LIG.acpype/LIG_GMX"
    if not (os.path.exists(f"{made}.itp") and os.path.exists(f"{made}.gro")):
        raise Failed(f"acpype left no topology: {complaint(said)}")
    itp = read(f"{made}.itp")
    types, body = itp.index("[ atomtypes ]"), itp.index("[ moleculetype ]")
    write("fep/solute_types.itp", itp[types:body])
    write("fep/solute.itp", itp[body:])
    shutil.copy(f"{made}.gro", "fep/solute.gro")


def solvate(task, _molecule):
    """Puts the molecule into a box of water."""
    lines = read("fep/solute.gro").splitlines()
    atoms = [[float(line[at : at + 8]) for at in (20, 28, 36)] for line in lines[2 : 2 + int(lines[1])]]
    extent = max(max(axis) - min(axis) for axis in zip(*atoms))
    if extent + WATER_NM > task["box_nm"]:
        room = f"{extent:.2f} nm of molecule and {WATER_NM} nm of water"
        raise Refused("box_too_small", f"{room} do not fit into box_nm {task['box_nm']}")
    includes = [f"{FORCE_FIELD}.ff/forcefield.itp", "solute_types.itp", "solute.itp", f"{FORCE_FIELD}.ff/tip3p.itp"]
    top = "".join(f'#include "{name}"\n' for name in includes)
    write("fep/system.top", top + "[ system ]\nsolute in water\n[ molecules ]\nLIG 1\n")
    gmx("editconf", "fep", "-f", "solute.gro", "-o", "box.gro", "-bt", "cubic", "-box", str(task["box_nm"]), "-c")
    gmx("solvate", "fep", "-cp", "box.gro", "-cs", "spc216.gro", "-o", "solvated.gro", "-p", "system.top")


def prepare(task, name, mdp, start, folder):
    """Makes the run input of a simulation."""
    write(f"{folder}/{name}.mdp", mdp.strip() + COMMON_MDP.format(cutoff=task["cutoff_nm"]))
    files = ["-f", f"{name}.mdp", "-c", start, "-p", "system.top", "-o", f"{name}.tpr", "-po", "mdout.mdp"]
    # The one warning is of the plain cut-off of the van der Waals forces, which the dispersion correction makes up for.
    gmx("grompp", folder, *files, "-maxwarn", "1")


def mdrun(task, name, folder, *arguments):
    """Runs one simulation, on the GPU if the task was given one. One rank: the number of threads changes the numbers, so it is the run's
    and fixed."""
    threads = ["-ntmpi", "1", "-ntomp", str(task["threads"])]
    # CUDA shows a task its own GPU only, as number 0. What else goes there, such as PME, mdrun decides.
    device = ["-nb", "gpu", "-gpu_id", "0"] if os.environ.get("MOLFLEET_GPU") else ["-nb", "cpu"]
    gmx("mdrun", folder, "-deffnm", name, *threads, "-reprod", *device, *arguments)


def dynamics(task, steps, seed):
    """What all dynamics have in common."""
    return DYNAMICS_MDP.format(dt=TIME_STEP_PS, steps=steps, seed=seed, temperature=task["temperature_k"])


def relax(task, _molecule):
    """Relaxes clashes."""
    prepare(task, "relax", RELAX_MDP, "solvated.gro", "fep")
    mdrun(task, "relax", "fep")


def equilibrate(task, molecule):
    """Brings the box to its temperature and density."""
    seed, temperature = molecule["seed"], task["temperature_k"]
    mdp = dynamics(task, task["equilibration_steps"], seed) + EQUILIBRATE_MDP.format(seed=seed, temperature=temperature)
    prepare(task, "equilibrate", mdp, "relax.gro", "fep")
    mdrun(task, "equilibrate", "fep")


def mean_volume(path):
    """The mean of the second half of a table of volumes, and its last entry."""
    rows = [line.split() for line in read(path).splitlines() if line and line[0] not in "#@"]
    volumes = [float(row[1]) for row in rows]
    late = volumes[len(volumes) // 2 :]
    return sum(late) / len(late), volumes[-1]


def pack(_task, _molecule):
    """Packs what all windows start from: the same files give the same bytes. The box gets the mean volume of the equilibration: the volume
    of a small one swings by some percent, and what it is at the last step would be in the free energy as a pressure."""
    gmx("energy", "fep", "-f", "equilibrate.edr", "-o", "volume.xvg", answer="Volume\n\n")
    mean, last = mean_volume("fep/volume.xvg")
    scale = f"{(mean / last) ** (1 / 3):.6f}"
    gmx("editconf", "fep", "-f", "equilibrate.gro", "-o", "system.gro", "-scale", scale, scale, scale)
    with tarfile.open("setup.part", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in SETUP:
            data = read(f"fep/{name}").encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    os.rename("setup.part", "setup.tar")


def unpack(folder):
    """Unpacks the set-up: its own files, whatever else the archive may hold."""
    os.makedirs(folder, exist_ok=True)
    with tarfile.open("setup.tar") as archive:
        for name in SETUP:
            write(f"{folder}/{name}", archive.extractfile(name).read().decode())


def window(task, molecule):
    """Runs one window, or goes on with it."""
    folder, number = "window", task["window"]
    unpack(folder)
    resumed = resume(task, folder)
    # Each window has random numbers of its own.
    seed = (molecule["seed"] + number) % (2**31 - 1) or 1
    mdp = dynamics(task, task["window_steps"], seed) + WINDOW_MDP.format(
        coulomb=" ".join(map(str, task["lambdas_coulomb"])),
        vdw=" ".join(map(str, task["lambdas_vdw"])),
        window=number,
        energy_every=task["energy_every"],
        frame_every=task["frame_every"],
        dhdl_every=task["dhdl_every"],
    )
    if not resumed:
        prepare(task, "window", mdp, "system.gro", folder)
    mdrun(task, "window", folder, "-dhdl", "dhdl.xvg", "-cpt", checkpoint_minutes(), *resumed)


def checkpoint_minutes():
    """How often mdrun writes a checkpoint: twice for each that the worker stores, so that none is old when it is stored."""
    return f"{int(os.environ.get('MOLFLEET_CHECKPOINT_SECONDS', STORED_EVERY_SECONDS)) / 60 / 2:.4f}"


def resume(task, folder):
    """The arguments with which a window goes on from a checkpoint. Without one that is whole, with all that mdrun appends to, and made
    with as many threads, there is nothing to go on from, and what is there is taken away: mdrun would start from 0 silently, or
    append to it."""
    parts = ["window.tpr", *APPENDED]
    # One that was cut off has an older one beside it.
    checkpoints = [name for name in CHECKPOINTS if os.path.exists(f"{folder}/{name}")]
    why_not = obstacle(task, folder, parts, "window.log") if checkpoints else None
    if why_not:
        print(f"it can't go on from the checkpoint: {why_not}", flush=True)
        checkpoints = []
    for name in checkpoints:
        if is_whole(folder, name):
            return ["-cpi", name]
    for name in [*parts, *CHECKPOINTS, "window.gro"]:
        if os.path.exists(f"{folder}/{name}"):
            os.remove(f"{folder}/{name}")
    return []


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


def energies(_task, _molecule):
    """Reads the window's energies back from their file."""
    gmx("energy", "window", "-f", "window.edr", "-o", "energy.xvg", answer="Potential\n\n")


def differences(path, states):
    """Of each sample of a window, the energy of each state less that of its own, in kJ/mol."""
    rows, columns = [], []
    for line in read(path).splitlines():
        legend = re.match(r'@ s(\d+) legend "(.*)"', line)
        if legend and r"\xD\f{}H" in legend.group(2):
            columns.append(int(legend.group(1)) + 1)
        elif line and line[0] not in "#@":
            rows.append([float(word) for word in line.split()])
    if len(columns) != states:
        raise Failed(f"{path} has the energies of {len(columns)} states (expected {states})")
    return [(row[0], [row[column] for column in columns]) for row in rows]


def fermi(x):
    """1 / (1 + eˣ), for any x."""
    return 1 / (1 + math.exp(min(x, 700)))


def overlap(forward, backward):
    """How much two states have in common, from 0 to 1: twice their entry of the MBAR overlap matrix, had there been no other state.
    `forward` are u₁ − u₀ of the samples of state 0, `backward` those of state 1, in kT."""
    ratio = math.log(len(backward) / len(forward))
    low, high = -1000.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        left = sum(fermi(u - middle - ratio) for u in forward)
        right = sum(fermi(middle + ratio - u) for u in backward)
        low, high = (middle, high) if left < right else (low, middle)
    shift = (low + high) / 2 + ratio
    common = sum(fermi(u - shift) * fermi(shift - u) for u in forward + backward)
    return 2 * common * (1 / len(forward) + 1 / len(backward)) / 2


def bar(task, files):
    """ΔG by Bennett's acceptance ratio: total, error and that of each pair of neighbours, in kJ/mol, from coupled to decoupled."""
    begin = ["-b", str(task["discard_ps"]), "-temp", str(task["temperature_k"])]
    said = gmx("bar", ".", "-f", *files, *begin, "-prec", "4", "-o", "fep/bar.xvg", "-oi", "fep/barint.xvg")
    pair = r"point\s+(\d+) -\s+(\d+),\s+DG\s+(\S+) \+/-\s+(\S+)"
    points = [(float(dg), float(error)) for _, _, dg, error in re.findall(pair, said)]
    total = re.search(r"total\s+\d+ -\s+\d+,\s+DG\s+(\S+) \+/-\s+(\S+)", said)
    if total is None or len(points) != len(files) - 1:
        raise Failed(f"gmx bar gives {len(points)} differences of {len(files)} windows: {complaint(said)}")
    return float(total.group(1)), float(total.group(2)), points


def mbar(task, files):
    """ΔG and its error by MBAR, in kJ/mol; None where alchemlyb is not installed."""
    try:
        import pandas
        from alchemlyb.estimators import MBAR
        from alchemlyb.parsing.gmx import extract_u_nk
    except ImportError as error:
        print(f"no MBAR: {error}", flush=True)
        return None
    samples = [extract_u_nk(name, T=task["temperature_k"]) for name in files]
    samples = [one[one.index.get_level_values(0) >= task["discard_ps"]] for one in samples]
    fitted = MBAR().fit(pandas.concat(samples))
    kt = GAS_CONSTANT_KJ * task["temperature_k"]
    return float(fitted.delta_f_.iloc[0, -1]) * kt, float(fitted.d_delta_f_.iloc[0, -1]) * kt


def reduce(task, _molecule):
    """The free energy of hydration: the way from decoupled to coupled, so the sign turns."""
    count = len(task["lambdas_vdw"])
    files = [f"windows/{number:03}/dhdl.xvg" for number in range(count)]
    kt = GAS_CONSTANT_KJ * task["temperature_k"]
    kept = [[states for at, states in differences(name, count) if at >= task["discard_ps"]] for name in files]
    overlaps = []
    for number in range(count - 1):
        steps = [[(states[number + 1] - states[number]) / kt for states in kept[side]] for side in (number, number + 1)]
        overlaps.append(overlap(*steps))
    total, error, points = bar(task, files)
    result = {
        "bar": -total / KJ_PER_KCAL,
        "bar_error": error / KJ_PER_KCAL,
        "steps": [-dg / KJ_PER_KCAL for dg, _ in points],
        "overlaps": overlaps,
        "samples": min(len(samples) for samples in kept),
    }
    found = mbar(task, files)
    if found:
        result.update({"mbar": -found[0] / KJ_PER_KCAL, "mbar_error": found[1] / KJ_PER_KCAL})
    write("fep/reduction.json", json.dumps(result))


# What each step does, and the reason of a molecule over which a program of it fails.
STEPS = {
    "solute": (solute, "parameters_failed"),
    "solvate": (solvate, "solvation_failed"),
    "relax": (relax, "minimisation_failed"),
    "equilibrate": (equilibrate, "equilibration_failed"),
    "pack": (pack, "equilibration_failed"),
    "window": (window, "dynamics_failed"),
    "energies": (energies, "energies_failed"),
    "reduce": (reduce, "reduction_failed"),
}


def work(step, task):
    """Does one step, or refuses the molecule."""
    os.makedirs("fep", exist_ok=True)
    do, reason = STEPS[step]
    try:
        try:
            do(task, task["molecules"][0])
        except Failed as failed:
            raise Refused(reason, str(failed)) from failed
    except Refused as refused:
        print(f"{refused.reason}: {refused}", file=sys.stderr)
        write("fep/refused.json", json.dumps({"reason": refused.reason, "detail": str(refused)}))


def main():
    """Does the step that the command line names."""
    try:
        work(sys.argv[1], json.loads(read("task.json")))
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
